"""Deliberate faults, each to be caught by its tests. `make mutants` applies one at a time to a copy of the tree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """name: what is wrong then. old must be in `file` exactly once, so that a fault can't silently stop applying.

    tests: what to run, arguments of pytest; the fastest that should notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LOCAL = ("tests/drive/test_local.py", "tests/drive/test_local_fence.py", "tests/drive/test_power_cut.py")
COMMIT = ("tests/unit/commit/test_engine.py", "tests/unit/commit/test_appending.py", "tests/rules/test_commit_rules.py")
HISTORY = ("tests/rules/test_history_rules.py", "tests/rules/test_clones.py")
CHECKPOINTS = ("tests/rules/test_checkpoint_rules.py",)
SHARDS = ("tests/unit/test_shard.py",)
STRIPES = ("tests/unit/stripes/test_rebuild.py", "tests/unit/stripes/test_reader_damage.py")
CRASH = ("tests/crash/test_crash_at_every_operation.py",)
ERRORS = ("tests/crash/test_error_at_every_operation.py",)
FOUND = ("tests/crash/test_found_by_simulation.py",)
RANDOM = ("tests/sim/test_random_runs.py",)
WRONG = ("tests/unit/heal/test_wrong_drives.py",)
ORPHANS = ("tests/unit/heal/test_orphans.py",)
DAMAGE = ("tests/unit/heal/test_damage.py", "-k", "shard")
PINS = ("tests/rules/test_pin_rules.py",)
COPIES = ("tests/unit/heal/test_older_copies.py",)
LIMITS = ("tests/unit/heal/test_limits.py",)
RESCUE = ("tests/rescue/test_damage.py", "tests/rescue/test_parts.py")

COMMITTER, GATHER, RECOVERY = "ecfs/commit/committer.py", "ecfs/journal/gather.py", "ecfs/journal/recovery.py"

FAULTS = [
    # ---- what a local drive calls durable (R21)
    Fault(
        "R21 a sync does not sync the files",
        "ecfs/drive/local_puts.py",
        "        os.fsync(descriptor)\n        links = ",
        "        links = ",
        LOCAL,
    ),
    Fault(
        "R21 a sync does not sync the directories",
        "ecfs/drive/local_puts.py",
        "                    sync_directory(name, directory)",
        "                    pass",
        LOCAL,
    ),
    Fault(
        "R21 a put that was begun counts although a sync failed meanwhile",
        "ecfs/drive/local_puts.py",
        "        self._call.result()\n        self._check()\n",
        "        self._call.result()\n",
        LOCAL,
    ),
    Fault(
        "R21 a fence leaves unsynced what a killed process has put",
        "ecfs/drive/local.py",
        "        root.settle()\n",
        "        pass\n",
        ("tests/drive/test_power_cut.py",),
    ),
    Fault(
        "a scrub reads what the kernel remembers, not the disk",
        "ecfs/drive/local_shards.py",
        "from_disk.whole(descriptor) as data:",
        "memoryview(_read_range(descriptor, 0, -1)) as data:",
        ("tests/drive/test_from_disk.py",),
    ),
    Fault(
        "a file system without direct reads verifies what the kernel remembers",
        "ecfs/drive/from_disk.py",
        "    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)\n",
        "",
        ("tests/drive/test_from_disk.py",),
    ),
    Fault(
        "R21 an append is not synced",
        "ecfs/drive/local_segments.py",
        "                os.fdatasync(descriptor)\n",
        "",
        LOCAL,
    ),
    Fault(
        "R21 a new segment's name is not synced",
        "ecfs/drive/local_segments.py",
        "                    sync_directory(DIRECTORY, directory)",
        "                    pass",
        LOCAL,
    ),
    Fault(
        "a blob is renamed before it is synced",
        "ecfs/drive/local_root.py",
        "                os.fsync(descriptor)\n                os.rename(",
        "                os.rename(",
        LOCAL,
    ),
    Fault(
        "a blob's new name is not synced",
        "ecfs/drive/local_root.py",
        "                os.fsync(root)\n                self.check_file",
        "                self.check_file",
        LOCAL,
    ),
    Fault(
        "R2 a promise is not synced",
        "ecfs/drive/local_root.py",
        "        os.fsync(descriptor)\n        os.fsync(root)\n",
        "        os.fsync(root)\n",
        LOCAL,
    ),
    Fault(
        "a repaired shard is renamed before it is synced",
        "ecfs/drive/local_puts.py",
        "                os.fsync(descriptor)\n                _compare",
        "                _compare",
        LOCAL,
    ),
    Fault(
        "R22 the directory of an epoch is not synced",
        "ecfs/drive/local_shards.py",
        "            os.fsync(held)\n",
        "",
        LOCAL,
    ),
    Fault(
        "R21 a sync that does not end well voids nothing",
        "ecfs/commit/settle.py",
        "                self._members.void_puts(member.slot)",
        "                pass",
        ("tests/rules/test_sync_rules.py",),
    ),
    Fault(
        "R8 what a superblock that found no room may name is an orphan",
        "ecfs/commit/checkpointer.py",
        "            pool.checkpoints = [checkpoint, *pool.checkpoints]\n",
        "            pool.checkpoints = [checkpoint, *pool.checkpoints[:1]]\n",
        ("tests/unit/heal/test_checkpoint_room.py",),
    ),
    Fault(
        "R21 a failed sync does not void its puts",
        "ecfs/drive/local.py",
        "                # Cancelled counts as failed: nobody knows what became durable.\n"
        "                close_soon(puts.void())\n",
        "",
        LOCAL,
    ),
    Fault(
        "R21 a failed sync of a node does not void its puts",
        "ecfs/drive/local.py",
        "                    puts.settle()\n            except BaseException:\n"
        "                close_soon(puts.void())\n",
        "                    puts.settle()\n            except BaseException:\n",
        LOCAL,
    ),
    Fault(
        "R21 writing into a deleted directory counts",
        "ecfs/drive/local_root.py",
        "        if not same_file(self._held, found):",
        "        if False:",
        ("tests/drive/test_local_place.py", "tests/drive/test_local.py"),
    ),
    Fault(
        "R20 a segment is used again after a failed append",
        "ecfs/drive/local_segments.py",
        "            self._sealed.add(segment.name)\n",
        "",
        LOCAL,
    ),
    Fault(
        "R19 a drive is used without its lock",
        "ecfs/drive/local.py",
        "        take_lock(root, required=not self._shared)\n",
        "",
        ("tests/drive/test_local_place.py", "tests/drive/test_local.py"),
    ),
    # ---- fence (R2)
    Fault(
        "R2 a stale epoch is accepted",
        "ecfs/drive/fence.py",
        "    if promised.epoch > writer.epoch:",
        "    if False:",
        ("tests/drive/test_local_fence.py", *HISTORY),
    ),
    Fault(
        "R2 another writer of the same epoch is accepted",
        "ecfs/drive/fence.py",
        "    if promised.epoch == writer.epoch and promised.nonce != writer.nonce:",
        "    if False:",
        ("tests/contract/test_fence.py", "-k", "local or memory"),
    ),
    Fault(
        "R2 history is read before the fence is up",
        GATHER,
        "            await _fence(opening, newest)\n        opening.superblocks, opening.collected = {}, Collected()\n"
        "        await _read_superblocks(opening)\n        for slot in list(opening.chosen):\n"
        "            await _collect(opening, slot)\n",
        "            pass\n        opening.superblocks, opening.collected = {}, Collected()\n"
        "        await _read_superblocks(opening)\n        for slot in list(opening.chosen):\n"
        "            await _collect(opening, slot)\n        if not opening.read_only:\n"
        "            await _fence(opening, newest)\n",
        FOUND,
    ),
    # ---- commit (R4, R5, R6)
    Fault(
        "the commit does not wait for a sync of its shards",
        COMMITTER,
        "            await self._settler.sync(commit.stripes)\n"
        "            if all(self._is_settled(commit, stripe) for stripe in commit.stripes):",
        "            for stripe in commit.stripes:\n                stripe.synced.update(stripe.placed)\n"
        "            if all(self._is_settled(commit, stripe) for stripe in commit.stripes):",
        CRASH,
    ),
    Fault(
        "R5 acknowledged although a drive that came back lacks the record",
        COMMITTER,
        "            if all(appended.get(member.slot) == member.incarnation for member in targets):",
        "            if any(appended.get(member.slot) == member.incarnation for member in targets):",
        COMMIT,
    ),
    Fault(
        "R5 the record is appended on one drive only",
        COMMITTER,
        "            await self._appender.append(record, targets, appended)\n",
        "            await self._appender.append(record, targets[:1], appended)\n            return\n",
        COMMIT,
    ),
    Fault(
        "R5 a commit goes on with too few drives",
        COMMITTER,
        "        if len(targets) < self._members.need:",
        "        if len(targets) < self._members.need - 1:",
        (*COMMIT, *ERRORS),
    ),
    Fault(
        "R4 what is missing is not recorded",
        COMMITTER,
        "if slot not in holders)",
        "if slot not in holders and slot < 0)",
        COMMIT,
    ),
    Fault(
        "R5 what drives lack leaves memory with its commit",
        COMMITTER,
        "short=not whole and stripe.id not in dead",
        "short=False",
        ("tests/unit/heal/test_watch.py",),
    ),
    Fault(
        "R5 a drive that fails during the append stays in W",
        COMMITTER,
        "        if not self._not_yet_out(commit):\n            return False",
        "        if self._not_yet_out(commit) is not None:\n            return False",
        COMMIT,
    ),
    Fault(
        "R5 slow drives are taken out, however many",
        "ecfs/pool/members.py",
        "        return len(late) <= self.m - out and remaining >= self.need",
        "        return True",
        COMMIT,
    ),
    Fault(
        "R6 a commit that failed is forgotten and the next one appended",
        "ecfs/commit/engine.py",
        "                self._stall(error)\n",
        "                self._stall(error)\n                break\n",
        COMMIT,
    ),
    Fault(
        "stripes are deleted before the commit that killed them",
        "ecfs/commit/engine.py",
        "        commit = self.committer.freeze(pins=pins)\n        self._frozen += 1",
        "        commit = self.committer.freeze(pins=pins)\n"
        "        self.reaper.bury(list(commit.dead), had_fact=False)\n        self._frozen += 1",
        COMMIT,
    ),
    Fault(
        "R13 a stripe is deleted while somebody reads it",
        "ecfs/commit/reaper.py",
        "            await self._pool.pins.wait_unpinned(stripe)\n",
        "",
        (*ORPHANS, *RANDOM),
    ),
    # ---- checksums (promise 4)
    Fault(
        "a block's checksum is not compared",
        "ecfs/shard.py",
        "    if crc32(data) != header.block_crcs[number]:",
        "    if False:",
        SHARDS,
    ),
    Fault(
        "a shard header's hash is not compared",
        "ecfs/shard.py",
        "    if _hash(view[:_HASHED]) != view[_HASHED:]:",
        "    if False:",
        SHARDS,
    ),
    Fault(
        "a record's hash is not compared",
        "ecfs/journal/record.py",
        "    if len(payload) != head.payload_length or _record_hash(head, payload) != head.hash:",
        "    if len(payload) != head.payload_length:",
        ("tests/fuzz/test_parsers.py", "-k", "record"),
    ),
    Fault(
        "a superblock's or an identity's hash is not compared",
        "ecfs/pool/sealed.py",
        '    if rest[-1:] != b"\\n" or _hash(match[1], number, body) != match[3]:',
        '    if rest[-1:] != b"\\n":',
        ("tests/unit/heal/test_damage.py", "-k", "superblock or identity"),
    ),
    Fault(
        "R16 an inline blob's checksum is not compared",
        "ecfs/meta/files.py",
        "        if zlib.crc32(data) != row[0]:",
        "        if False:",
        ("tests/unit/meta/test_files.py",),
    ),
    Fault(
        "R3 a shard of another generation counts",
        "ecfs/stripes/fact.py",
        '            "content": (header.content_hash, self.content_hash),\n',
        "",
        HISTORY,
    ),
    Fault(
        "a piece is given out though some of its blocks fail their checksums",
        "ecfs/stripes/fetch.py",
        "is_run = flaw is None and len(answers) == 1",
        "is_run = len(answers) == 1",
        ("tests/unit/stripes/test_straight.py",),
    ),
    Fault(
        "bytes behind what was asked for are given out",
        "ecfs/stripes/fetch.py",
        " and len(answers[0]) == self._range(runs[0])[1]",
        "",
        ("tests/unit/stripes/test_reader_reports.py", "-k", "longer"),
    ),
    Fault(
        "what was rebuilt is not compared with the row",
        "ecfs/stripes/rebuild.py",
        "        return content_hash(fact.length, fact.geometry.k, crcs) == fact.content_hash",
        "        return bool(content_hash(fact.length, fact.geometry.k, crcs))",
        STRIPES,
    ),
    # ---- opening (R1, R7, R8, R9, R11)
    Fault(
        "R1 a tail that may be durable nowhere is built upon",
        "ecfs/journal/takeover.py",
        "if head.hash in repeated or head.hash not in",
        "if head.hash not in",
        HISTORY,
    ),
    Fault(
        "R11 what a record says of a drive that leaves without it is counted on",
        COMMITTER,
        "        self._doubt(commit, outcome, leaving)\n",
        "",
        COPIES,
    ),
    Fault(
        "R11 a repair is counted on that is told by the record with which its drive leaves",
        COMMITTER,
        "        outcome.present = [pair for pair in outcome.present if pair[1] not in out]\n",
        "",
        COPIES,
    ),
    Fault(
        "R11 a drive is believed to show what an opening copied to it",
        "ecfs/journal/segments.py",
        " and segment_position(place.segment)[0] <= settled",
        "",
        COPIES,
    ),
    Fault(
        "R11 the superblock of a drive that was used elsewhere is a witness",
        "ecfs/journal/state.py",
        " if slot not in self.strangers]",
        "]",
        HISTORY,
    ),
    Fault(
        "R1 the longest chain wins",
        "ecfs/journal/chain.py",
        "        if head.position > (tail.epoch, tail.seq):",
        "        if (head.seq, head.epoch) > (tail.seq, tail.epoch):",
        HISTORY,
    ),
    Fault(
        "recovery leaves out the last record",
        "ecfs/journal/chain.py",
        "    chain.reverse()\n    return chain\n",
        "    chain.reverse()\n    return chain[:-1]\n",
        COMMIT,
    ),
    Fault(
        "recovery is off by one behind a checkpoint",
        RECOVERY,
        "head.seq > pool.db.patch_seq:",
        "head.seq > pool.db.patch_seq + 1:",
        (*CHECKPOINTS, *COMMIT),
    ),
    Fault(
        "R4 outcomes are not replayed",
        RECOVERY,
        "        pool.db.apply_outcome(outcome, head.seq)\n",
        "",
        COMMIT,
    ),
    Fault(
        "R9 a drive that was away proves what was given up",
        RECOVERY,
        " and not any(head.epoch > epoch and head.seq <= seq for head in later)",
        "",
        HISTORY,
    ),
    Fault(
        "R9 what only superblocks prove is given up without a word",
        RECOVERY,
        "    if proven > pool.seq and opening.quarantine is None:",
        "    if False:",
        HISTORY,
    ),
    Fault(
        "R7 a joining drive counts",
        "ecfs/pool/judge.py",
        "    if identity.state == JOINING:",
        "    if False:",
        WRONG,
    ),
    Fault(
        "R8 the older checkpoint is no fallback",
        RECOVERY,
        "    for checkpoint in checkpoints:\n        try:",
        "    for checkpoint in checkpoints[:1]:\n        try:",
        CHECKPOINTS,
    ),
    Fault(
        "R8 the journal is pruned up to the newest checkpoint",
        "ecfs/commit/checkpointer.py",
        "        oldest = pool.checkpoints[-1]\n",
        "        oldest = pool.checkpoints[0]\n",
        CHECKPOINTS,
    ),
    Fault(
        "R8 a segment is pruned while its first record is on its way",
        "ecfs/journal/segments.py",
        "        shelf.tape.newest = max(shelf.tape.newest, seq)\n",
        "        shelf.tape.newest = seq if shelf.tape.offset else 0\n",
        CHECKPOINTS,
    ),
    Fault(
        "R8 a superblock is written before the checkpoint is synced",
        "ecfs/commit/checkpointer.py",
        "        await self._settler.sync(stripes)\n",
        "        for stripe in stripes:\n            stripe.synced.update(stripe.placed)\n",
        CHECKPOINTS,
    ),
    Fault(
        "R9 a rotten record hides those behind it",
        "ecfs/journal/record.py",
        "        return (len(segment) if following < 0 else following) - offset, None",
        "        return len(segment) - offset + 0 * following, None",
        ("tests/unit/journal/test_record.py",),
    ),
    Fault(
        "R9 a gap in history is the end of history",
        "ecfs/journal/chain.py",
        "            raise HistoryGapError(_gap_text(chain, tail, base))",
        "            return newest_whole(by_hash, base)",
        HISTORY,
    ),
    Fault(
        "R9 a superblock's proof of later commits is ignored",
        RECOVERY,
        "    if proven > pool.seq and not opening.accept_loss:",
        "    if False:",
        HISTORY,
    ),
    Fault(
        "R11 a copy that lived on elsewhere chooses the tail",
        "ecfs/journal/support.py",
        "    return {trace for trace, members in seen.items() if members < needed and trace[0] >= newest}",
        "    return {trace for trace, members in seen.items() if members < 0 and trace[0] >= newest}",
        HISTORY,
    ),
    Fault(
        "R11 a drive that was rolled back is believed",
        "ecfs/heal/enter.py",
        "        if shown >= (pool.seq if member.in_w else member.confirmed[1]):",
        "        if shown >= 0:",
        WRONG,
    ),
    Fault(
        "R11 both of two drives with one identity are used",
        "ecfs/pool/judge.py",
        "    if ids[identity.drive_id] > 1:",
        "    if ids[identity.drive_id] > 2:",
        ("tests/unit/cli/test_pool_damage.py", "tests/rules/test_clones.py"),
    ),
    Fault(
        "R22 a partly deleted drive counts",
        "ecfs/pool/judge.py",
        "    if gone := await _gone(drive):",
        "    if gone := '':",
        ("tests/unit/heal/test_directories.py",),
    ),
    Fault(
        "R11 a drive on its way back is taken in although its slot got a new one",
        "ecfs/heal/enter.py",
        "        while (other := self._ways.get(slot)) is not None:",
        "        while (other := {}.get(slot)) is not None:",
        ("tests/unit/heal/test_replace.py",),
    ),
    Fault(
        "R15 a patchset is applied to another state",
        "ecfs/meta/database.py",
        "                if not self.counters.follow():",
        "                if self.counters.follow() is None:",
        ("tests/unit/meta/test_replay.py",),
    ),
    # ---- heal (R12, R13, R18)
    Fault(
        "R12 shards that a row names are cleaned up",
        "ecfs/heal/cleanup.py",
        "<= self.last and not is_named(self._ctx, space, number)",
        "<= self.last",
        ORPHANS,
    ),
    Fault(
        "R12 an orphan is deleted by the first scrub that sees it",
        "ecfs/heal/scrub_orphans.py",
        "        doomed = [key for key in orphans if key in before]",
        "        doomed = [key for key in orphans if before is not None]",
        ORPHANS,
    ),
    Fault(
        "R12 however many orphans there are, they are deleted",
        "ecfs/heal/scrub_orphans.py",
        "        if len(orphans) > max(total // SHARE, ALWAYS) or job.dry_run or given_up:",
        "        if job.dry_run or given_up:",
        ORPHANS,
    ),
    Fault(
        "a repaired shard counts without having been read again",
        "ecfs/heal/mend.py",
        "                if again.good.get(slot) == incarnation:",
        "                if again.stripe == result.stripe:",
        LIMITS,
    ),
    Fault(
        "a name that is taken keeps a missing shard from being repaired",
        "ecfs/heal/mend.py",
        "                with suppress(ShardExistsError):\n",
        "                with suppress(ValueError):\n",
        ("tests/unit/heal/test_damage.py", "-k", "name_is_taken"),
    ),
    Fault(
        "a repair is not recorded in the ledger",
        "ecfs/heal/mend.py",
        "        if outcome != Outcome():\n            await",
        "        if outcome == Outcome():\n            await",
        LIMITS,
    ),
    Fault(
        "what was found bad is not in the ledger before its repair",
        "ecfs/heal/mend.py",
        "            await self._note_bad(results)\n",
        "",
        ("tests/unit/heal/test_damage.py", "-k", "known_until"),
    ),
    Fault(
        "a checkpoint's shard is not noted before its repair",
        "ecfs/heal/doubts.py",
        "        await self._note(self._noted() | {(fact.id, slot) for slot in shards})\n",
        "",
        ("tests/unit/heal/test_damage.py", "-k", "known_until"),
    ),
    Fault(
        "a forged shard is not in the ledger before its repair",
        "ecfs/heal/drill.py",
        "        await self._job.ctx.engine.record(Outcome(missing=[(fact.id, slot)]))\n",
        "",
        ("tests/unit/heal/test_drill.py",),
    ),
    Fault(
        "what ISA-L computes is not compared with pyeclib at the start",
        "ecfs/codec/__init__.py",
        "        _test_cut(codec)\n",
        "",
        ("tests/unit/test_codec.py",),
    ),
    Fault(
        "R5 a hung put is waited for for ever",
        "ecfs/commit/settle.py",
        "settler.watch(each.member, each.drive, each.give_up, each.answered)",
        "settler.watch(each.member, each.drive, bool, each.answered)",
        ("tests/unit/commit/test_appending.py",),
    ),
    Fault(
        "the drill believes what it read",
        "ecfs/heal/prove.py",
        "        if bytes(data) != bytes(encoded.fragments[index].data):",
        "        if False:",
        ("tests/unit/heal/test_drill.py",),
    ),
    Fault(
        "R13 a read pins no stripe",
        "ecfs/commit/reading.py",
        "                pins.enter_context(self._pool.pins.pin(source))\n",
        "",
        PINS,
    ),
    Fault(
        "R13 the compactor swaps rows that are no longer as it read them",
        "ecfs/meta/files.py",
        "AND length = ? AND source = ? AND source_offset = ?",
        "AND ? > 0 AND ? != 0 AND ? >= 0",
        PINS,
    ),
    Fault(
        "R13 scrub judges stripes that died while it looked",
        "ecfs/heal/scrub_stripes.py",
        "        facts = [fact for fact in page.facts if ctx.fact(fact.id) is not None]",
        "        facts = page.facts",
        ORPHANS,
    ),
    Fault(
        "R10 a deleted drive is recreated on whatever disk lies there now",
        "ecfs/heal/join.py",
        "        if recorded and (here is None or here.filesystem != recorded):",
        "        if False:",
        WRONG,
    ),
    Fault(
        "R10 a drive is recreated although stripes need what is away",
        "ecfs/heal/join.py",
        "        if ledger.counts(out).lost > ledger.counts(frozenset()).lost:",
        "        if False:",
        WRONG,
    ),
    Fault(
        "R22 a partly deleted place is filled whatever lies in it",
        "ecfs/heal/restore.py",
        "        if why := await self._foreign(slot, drive):",
        "        if why := None:",
        WRONG,
    ),
    Fault(
        "R3 a stripe's id says nothing of the epoch",
        "ecfs/commit/sealer.py",
        "        return stripe_id(pool.writer.epoch, counter)",
        "        return stripe_id(2, counter)",
        HISTORY,
    ),
    # ---- space (R17, R23)
    Fault(
        "R17 a commit has no limit of rows",
        "ecfs/commit/engine.py",
        "        if self.db.changes > settings.commit_rows or",
        "        if",
        CHECKPOINTS,
    ),
    Fault(
        "R23 nothing is kept back on a drive",
        "ecfs/commit/space.py",
        "            frees.append(space.free // slots - keep)",
        "            frees.append(space.free // slots)",
        CHECKPOINTS,
    ),
    Fault(
        "R23 every drive without room for a record leaves, however many",
        "ecfs/commit/settle.py",
        "        if full and len(left) < self._members.need:",
        "        if False:",
        COMMIT,
    ),
    Fault(
        "R23 writes are admitted to full drives",
        "ecfs/commit/space.py",
        "self._sampled.free - self._outstanding > size",
        "self._sampled.free > -1",
        CHECKPOINTS,
    ),
    # ---- where a drive may be made, what the kernel does not tell, ranges, stores, rescue (R10, R14, R18, R24, R25)
    Fault(
        "R10 a look at where a place lies is trusted when its drive is made",
        "ecfs/heal/restore.py",
        "filesystem=self._joiner.filesystem(slot)",
        'filesystem=""',
        (*WRONG, "-k", "r10"),
    ),
    Fault(
        "R14 nothing is committed when programs pause",
        "ecfs/commit/engine.py",
        "            due = min(self._last_change + settings.idle_commit_s, self._first_change + settings.max_commit_s)",
        "            due = self._first_change + settings.max_commit_s",
        COMMIT,
    ),
    Fault(
        "R14 nothing is committed while programs go on",
        "ecfs/commit/engine.py",
        "            due = min(self._last_change + settings.idle_commit_s, self._first_change + settings.max_commit_s)",
        "            due = self._last_change + settings.idle_commit_s",
        COMMIT,
    ),
    Fault(
        "R14 a mount does not wait for the daemon of the last one",
        "ecfs/mount/patience.py",
        "LEAVING_S if leaving else",
        "0.0 if leaving else",
        ("tests/unit/test_patience.py",),
    ),
    Fault(
        "R18 a rebuild forgets the rest of a range",
        "ecfs/heal/ranges.py",
        "    if first is not None and first < hi:",
        "    if False:",
        LIMITS,
    ),
    Fault(
        "R24 a store that creates a name twice is used",
        "ecfs/drive/bucket.py",
        '        if not self._creates_once(f"{TEST}{self._token()}"):',
        "        if False:",
        ("tests/drive/test_bucket.py",),
    ),
    Fault(
        "R25 rescue takes a shard of another stripe",
        "ecfs/rescue.py",
        "    if (stripe, payload, fragment, content) != (fact.id, fact.length, fact.fragment, fact.hash):",
        "    if False:",
        RESCUE,
    ),
    Fault(
        "R25 rescue believes the blocks of a shard",
        "ecfs/rescue.py",
        "if crc == own}",
        "if True}",
        RESCUE,
    ),
    Fault(
        "R25 rescue believes a record",
        "ecfs/rescue.py",
        '    if not whole or blake2b(b"ecfs record 1" + first.common + payload) != first.hash:',
        "    if False:",
        RESCUE,
    ),
    Fault(
        "R25 rescue ignores that newer commits existed",
        "ecfs/rescue.py",
        "        if ahead > end.position[1] or proven > end.position or opened > end.position[0]:",
        "        if False:",
        RESCUE,
    ),
    Fault(
        "a new drive takes a slot without what was committed since it was filled",
        "ecfs/heal/replace.py",
        "            arrival.complete = partial(self._complete, arrival) if member.up else None",
        "            arrival.complete = None",
        ("tests/unit/heal/test_replace_keeps_all.py",),
    ),
    Fault(
        "what ends a mount ends its engine first",
        "ecfs/mount/volume.py",
        "                committing.shield = True",
        "                committing.shield = False",
        ("tests/unit/cli/test_volume.py",),
    ),
    Fault(
        "a stall in a background scrub comes out in a group",
        "ecfs/commit/tasks.py",
        "            yield\n        except EcfsError as error:",
        "            yield\n        except ZeroDivisionError as error:",
        ("tests/unit/heal/test_scrub.py",),
    ),
    Fault(
        "R21 a sync of a node forgets the syncs that are on their way",
        "ecfs/drive/node.py",
        "        oldest = _oldest([self._oldest_put, *self._syncing.values()])",
        "        oldest = self._oldest_put",
        ("tests/node/test_syncs.py",),
    ),
    Fault(
        "R23 small drives keep as much inline as large ones",
        "ecfs/commit/space.py",
        "    return min(pool.settings.inline_limit, journal_limit(pool))",
        "    return pool.settings.inline_limit",
        ("tests/unit/commit/test_admission.py",),
    ),
    Fault(
        "of two drives for one slot the one listed first is taken",
        "ecfs/pool/judge.py",
        "_age(other, written) < _age(sight, written)",
        "_age(other, {}) < _age(sight, {})",
        ("tests/unit/heal/test_replace.py",),
    ),
    Fault(
        "R21 what was put by a call that stays open is not counted for the next sync",
        "ecfs/drive/node.py",
        "            succeeded=lambda reply: self._remember(reply.voids),",
        "            succeeded=bool,",
        ("tests/node/test_spoken.py",),
    ),
    Fault(
        "R20 a node whose disk hangs in an append is deaf",
        "ecfs/rpc/served_exchange.py",
        "            if began is not None and stopwatch() - began >= PATIENCE_S:",
        "            if False and began is not None:",
        ("tests/node/test_hearing.py",),
    ),
    Fault(
        "a node that is asked to end breaks off the answer of an append that it makes",
        "ecfs/rpc/served_exchange.py",
        "        with self._at_work:  # else the call would end",
        "        if self._ending:  # else the call would end",
        ("tests/node/test_standing.py",),
    ),
    Fault(
        "giving up what is answered ends the call of the next put",
        "ecfs/rpc/conversation.py",
        "            if saying is not None and self._saying is not saying:",
        "            if False and saying is not None:",
        ("tests/node/test_spoken.py",),
    ),
    Fault(
        "a shard that was sent stays in memory",
        "ecfs/drive/node_link.py",
        "        self._release()\n        self._send = None\n",
        "        self._release()\n",
        ("tests/node/test_spoken.py",),
    ),
    Fault(
        "calls that stay open count among those that are worked on",
        "ecfs/node/guard.py",
        "            running, most, most_of_all = self._standing, STANDING_PER_CLIENT, STANDING",
        "            running, most, most_of_all = self._running, 27, CALLS",
        ("tests/node/test_spoken.py",),
    ),
]
