"""What fails together: drives on one disk, one host, in one bucket; and what a pool then really survives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ecfs.drive.registry import is_bucket, is_directory
from ecfs.drive.s3_url import S3Url
from ecfs.mount.disks import disk_of


def domain_of(url: str) -> tuple[str, str]:
    """(kind, name) of what a drive at a canonical URL fails with: a disk, a host or a bucket."""
    if is_directory(url):
        return "disk", disk_of(url)
    if is_bucket(url):
        endpoint, bucket = S3Url.parse(url).place
        return "bucket", f"{bucket} at {endpoint}" if endpoint else bucket
    return "host", url.rpartition(":")[0]


def risks_of(urls: Sequence[str], m: int) -> list[str]:
    """What a person should know about drives at these canonical URLs. Looks at local places: may take long."""
    line = warning([domain_of(url) for url in urls], m)
    return [line] if line else []


def survived(domains: Sequence[tuple[str, str]], m: int) -> int:
    """How many whole domains may fail, whichever they are, while at most m drives are lost."""
    lost = survivors = 0
    for _, count in Counter(domains).most_common():
        lost += count
        if lost > m:
            break
        survivors += 1
    return survivors


def warning(domains: Sequence[tuple[str, str]], m: int) -> str:
    """One line about drives that fail together, with what is really survived; "" if none do."""
    together = {domain: [str(slot) for slot, other in enumerate(domains) if other == domain] for domain in domains}
    shared = {domain: slots for domain, slots in together.items() if len(slots) > 1}
    if not shared:
        return ""
    places = "; ".join(f"drives {', '.join(slots)} share one {kind} ({name})" for (kind, name), slots in shared.items())
    count = survived(domains, m)
    if count >= m:
        return ""
    kinds = " or ".join(sorted({kind for kind, _ in shared}))
    really = f"not of that {kinds}" if count == 0 else f"only of {count} such {kinds} at a time"
    return f"{places}: the pool survives the loss of any {m} drives, but {really}"
