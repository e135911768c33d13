"""More calamities: what people do to the places of a pool by mistake, files whose checksums are right and that are not
what they should be, history that ends too early on all drives, drives that go while the pool is being opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import trio
from msgspec import structs

from ecfs import geometry
from ecfs.drive.fence import NOBODY
from ecfs.drive.memory_store import File
from ecfs.errors import EcfsError, NotAPoolError, NotEnoughDrivesError, RefusedError
from ecfs.journal import record as records
from ecfs.journal.create import create_pool
from ecfs.journal.record import HEADER_LENGTH, Found, Record, RecordHead, compose, frame, parse_record, scan
from ecfs.journal.segments import segment_position
from ecfs.journal.superblock import decode_superblock, encode_superblock
from ecfs.pool.identity import decode_identity, encode_identity
from ecfs.shard import crc32, shard_key
from tests.sim.calamities import Calamities, Kind, forge, what
from tests.sim.healing import ATTEMPTS, whole_scrub
from tests.sim.history import Violation, read_tree
from tests.sim.store import put_image, take_image, take_images

OPENING = 300
"""Operations of drives that an opening takes, about."""


@dataclass(frozen=True)
class Lying:
    """A valid record on the medium of a place."""

    place: int
    key: str
    file: File
    offset: int
    record: Record

    @property
    def head(self) -> RecordHead:
        return self.record.head


class Ruins(Calamities):
    """Each kind is a method, as there."""

    def kinds(self) -> list[Kind]:
        world, kinds = self.world, super().kinds()
        kinds += [self.made_over, self.no_pool_file]
        if not world.brittle and not world.suspects:
            kinds += [self.counterfeit, self.promises_forgotten, self.cut_back, self.cut_back, self.another_schema]
            kinds += [self.dark, self.dark, self.contradictory]
            if world.weather.read_s is None and self._have_shards_one_block():
                kinds.append(self.forged_and_read)
        return kinds

    # ---- people -----------------------------------------------------------------------------------------------------

    async def made_over(self) -> None:
        """A new pool where one is, of too few places, or of places of which one does not answer."""
        world, chance = self.world, self.world.chance
        fresh = [world.new_place() for _ in range(world.geometry.n)]
        taken = chance.choice([place for place in world.places if world.stores[place].names])
        before = take_images(world.stores)
        await self._refused_to_make(chance.choice([world.places, [*fresh[1:], taken], fresh[1:]]))
        async with world.without([chance.choice(fresh)]):
            await self._refused_to_make(fresh)
        self._same(before)

    async def _refused_to_make(self, places: list[int]) -> None:
        world = self.world
        drives = [world.wrapped(world.handle(place)) for place in places]
        try:
            await create_pool(drives, world.geometry, clock=world.clock, scratch=world.scratch)
        except RefusedError:
            return
        raise Violation(f"a pool was made of places {places}")

    async def no_pool_file(self) -> None:
        """The drives say which pool it is, also beside others: a copy, those that were replaced, somebody's files.
        A drive that was replaced may be taken for that of its slot, which costs a drive: only where all others are
        well."""
        world, chance = self.world, self.world.chance
        foreign, copy = world.new_place(), world.new_place()
        world.stores[foreign].exists = True
        world.stores[foreign].write("s/00000001/00000001", b"somebody's")
        places = [*world.places, foreign]
        if not world.brittle and not world.suspects:
            places = list(range(len(world.stores)))
            put_image(world.stores[copy], take_image(world.stores[chance.choice(world.places)], {}))
        before = take_images(world.stores)
        everywhere = [place for place in sorted(places) if world.stores[place].exists]
        async with world.looked_at(everywhere, pool_id="") as fs:
            self.history.recovered(await read_tree(fs), "a look without a pool file")
        async with world.without(world.places):
            for places, error in ((world.places, NotEnoughDrivesError), ([foreign], NotAPoolError)):
                try:
                    async with world.looked_at(places, pool_id=""):
                        raise Violation(f"a pool was found on places {places}")
                except error:
                    pass
        self._same(before)
        world.stores[foreign].wipe()
        world.stores[copy].wipe()

    # ---- right checksums, and not what it should be -----------------------------------------------------------------

    async def counterfeit(self) -> None:
        """On up to m drives: no different from rot."""
        world, chance = self.world, self.world.chance
        how = chance.choice([self._of_another_pool, self._with_another_body, self._with_an_odd_header])
        for place in chance.sample(world.places, chance.randint(1, world.geometry.m)):
            how(place)
        async with world.mounted() as mount:
            self.history.recovered(await read_tree(mount.fs), f"counterfeit {how.__name__}")
            reports = [await whole_scrub(mount) for _ in range(ATTEMPTS)]
            if reports[-1].found:
                raise Violation(f"counterfeit {how.__name__}: still something to do: {reports[-1].findings[:3]}")
            if not all(self._is_ours(place) for place in world.places):
                raise Violation("the superblock of another pool was left on a drive")

    def _of_another_pool(self, place: int) -> None:
        data = self.world.stores[place].names["superblock"].data
        superblock = decode_superblock(bytes(data))
        data[:] = encode_superblock(structs.replace(superblock, pool_id="ab" * 16))

    def _is_ours(self, place: int) -> bool:
        data = bytes(self.world.stores[place].names["superblock"].data)
        return decode_superblock(data).pool_id == self.world.pool_id

    def _with_another_body(self, place: int) -> None:
        """A byte of a body is another, and its frame says so."""

        def change(part: bytearray) -> None:
            part[self.world.chance.randrange(HEADER_LENGTH, len(part))] ^= 1
            part[148:152] = crc32(part[HEADER_LENGTH:]).to_bytes(4, "little")

        self._change_part(place, change)

    def _with_an_odd_header(self, place: int) -> None:
        def change(part: bytearray) -> None:
            part[self.world.chance.choice([10, 12, 140, 190])] ^= 8

        self._change_part(place, change)

    def _change_part(self, place: int, change: Callable[[bytearray], None]) -> None:
        """Of a record's first frame, whose checksum is made right."""
        lying = self.world.chance.choice([each for each in self._records() if each.place == place])
        end = lying.offset + min(lying.head.framed_length, HEADER_LENGTH + records.MAX_PART)
        part = lying.file.data[lying.offset : end]
        change(part)
        part[224:HEADER_LENGTH] = hashlib.blake2b(part[:224], digest_size=32).digest()
        lying.file.data[lying.offset : end] = part

    async def another_schema(self) -> None:
        """A newer ecfs wrote the newest commit, everywhere, and keeps other metadata: this one leaves them alone."""
        world = self.world
        newest = max((each.head for each in self._records()), key=lambda head: head.position)
        for each in [each for each in self._records() if each.head == newest]:
            head = each.head
            other = compose(
                head.kind, head.pool_id, head.epoch, head.seq, head.nonce, head.prev, head.committed_seq,
                bytes(byte ^ 1 for byte in head.schema), each.record.patchset, each.record.outcome,
            )  # fmt: skip
            each.file.data[each.offset : each.offset + head.framed_length] = frame(other)
        before = take_images(world.stores)
        for accept_loss in (False, True):
            try:
                async with world.mounted(accept_loss=accept_loss) as mount:
                    self.history.recovered(await read_tree(mount.fs), "all of history is in a checkpoint")
                    before = take_images(world.stores)
            except* EcfsError as errors:
                world.done[f"another schema: {what(errors)}"] += 1
                self._same(before)
            world.kill()

    async def promises_forgotten(self) -> None:
        """No drive knows any more to whom it was promised, nor since when it is a member; nobody else has the pool. The
        journals say which epochs there were, and none is used twice."""
        world = self.world
        newest = max(each.head.epoch for each in self._records())
        for place in world.places:
            store = world.stores[place]
            store.fence = NOBODY
            data = store.names["identity"].data
            data[:] = encode_identity(structs.replace(decode_identity(bytes(data)), epoch=0, nonce=""))
        async with world.mounted() as mount:
            self.history.recovered(await read_tree(mount.fs), "after all promises were forgotten")
            if mount.engine.pool.writer.epoch <= newest:
                raise Violation(f"epoch {mount.engine.pool.writer.epoch} was opened after {newest}")

    async def contradictory(self) -> None:
        """Shards of one stripe with right checksums of which no k fit together: it is said, and nothing is made of
        them."""
        world, chance = self.world, self.world.chance
        async with world.mounted() as mount:
            stripe = await self._some_stripe(mount)
            if stripe is None:
                return
            k, m = world.geometry.k, world.geometry.m
            forge(self._shard(stripe, k + chance.randrange(m)), chance)
            key = shard_key("s", stripe)
            for index in chance.sample(range(k), m):
                place = self._place(stripe, index)
                world.stores[place].drop(key)
            before = self._contents(key)
            reports = [await whole_scrub(mount), await mount.healer.drill(restart=True)]
            if not all(report.lost for report in reports):
                raise Violation(f"shards that contradict each other: {[report.findings[:3] for report in reports]}")
            if self._contents(key) != before:
                raise Violation("something was made of shards that contradict each other")

    def _contents(self, key: str) -> dict[int, bytes]:
        return {place: bytes(self.world.stores[place].names[key].data) for place in self._with(key)}

    def _have_shards_one_block(self) -> bool:
        settings, k = self.world.settings, self.world.geometry.k
        return settings is not None and settings.stripe_size <= k * geometry.BLOCK_SIZE

    async def forged_and_read(self) -> None:
        """A forged parity shard beside a rotten one of data, of which the header is sound: that tells. Only where no
        drive is ever late: of one that was not waited for nobody knows the header. And only where a shard is one block:
        once the first bad block is noted, the shard is not asked for the others, nor for its header."""
        async with self.world.mounted() as mount:
            stripe = await self._some_stripe(mount)
            if stripe is None:
                return
            self._forge_beside_rot(stripe)
            mount.engine.pool.reader.forget(stripe)
            self.history.recovered(await read_tree(mount.fs), "a forged shard, read before any scrub")

    # ---- history that ends too early --------------------------------------------------------------------------------

    async def cut_back(self) -> None:
        """On all drives a stretch of records is gone, or all from one on, and some drives are away besides."""
        world, chance = self.world, self.world.chance
        records = self._records()
        positions = sorted({each.head.position for each in records})
        at = len(positions) - 1 - int(len(positions) * chance.random() ** 2)  # rather a new one: old ones aren't needed
        stretch = positions[at : at + chance.choice([1, 2, 3, len(positions)])]
        for each in reversed(records):  # so that offsets before it stay what they are
            if each.head.position in stretch:
                del each.file.data[each.offset : each.offset + each.head.framed_length]
                each.file.durable = min(each.file.durable, len(each.file.data))
        async with world.without(chance.sample(world.places, chance.randint(0, world.geometry.m))):
            if await self._refused_or_whole():
                async with world.mounted() as mount:  # what was given up stays so
                    await self._holds_together(mount)

    def _records(self) -> list[Lying]:
        return [each for place in self.world.places for each in self._records_of(place)]

    def _records_of(self, place: int) -> Iterator[Lying]:
        names = self.world.stores[place].names
        pool_id = bytes.fromhex(self.world.pool_id)
        for key in sorted(key for key in names if key.startswith("j/")):
            data = bytes(names[key].data)
            for found in scan(data, pool_id, segment_position(key)[0]):
                if isinstance(found, Found):
                    whole = data[found.offset : found.offset + found.head.framed_length]
                    yield Lying(place, key, names[key], found.offset, parse_record(whole, found.head))

    # ---- while it is being opened -----------------------------------------------------------------------------------

    async def dark(self) -> None:
        """More than m drives go at any moment of an opening: refused or stalled, and all is well when they are back."""
        world, chance = self.world, self.world.chance
        gone = chance.sample(world.places, chance.randint(world.geometry.m + 1, world.geometry.n))
        left = chance.randrange(OPENING)

        def script(number: int, place: int, operation: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                for each in gone:
                    world.stores[each].vanish()

        world.weather.script = script
        try:
            async with world.mounted():
                await trio.sleep(3)
        except* EcfsError as errors:
            world.done[f"dark: {what(errors)}"] += 1
        finally:
            world.weather.script = None
            for place in world.places:
                world.stores[place].come_back()
        world.kill()
        async with world.mounted() as mount:
            self.history.recovered(await read_tree(mount.fs), "drives went while the pool was being opened")
