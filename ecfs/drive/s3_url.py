"""``s3://bucket/prefix?endpoint=http://host:9000&region=…``: one spelling for each place."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ecfs.errors import UsageError

KNOWN = ("endpoint", "region")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


@dataclass(frozen=True)
class S3Url:
    """endpoint: of a store that is not Amazon's, without a slash at the end; region: "" for the default."""

    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""

    @classmethod
    def parse(cls, url: str) -> S3Url:
        """Raises UsageError naming what is wrong."""
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        if not _BUCKET.fullmatch(parts.netloc) or (prefix and not _PREFIX.fullmatch(prefix)) or parts.fragment:
            raise UsageError(
                f"{url}: give s3://BUCKET/PREFIX, with ?endpoint=http://HOST:PORT where it is not Amazon's"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options:
            if name not in KNOWN:
                close = difflib.get_close_matches(name, KNOWN, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(KNOWN)}"
                raise UsageError(f"{url}: unknown option {name!r}; {hint}")
        endpoint = options.get("endpoint", "").rstrip("/")
        if endpoint and not re.fullmatch(r"https?://[^/?#&\s]+", endpoint):
            raise UsageError(f"{url}: endpoint must be http://HOST:PORT or https://HOST")
        return cls(parts.netloc, prefix, endpoint, options.get("region", ""))

    @property
    def place(self) -> tuple[str, str]:
        """(endpoint, bucket): what fails as one."""
        return self.endpoint, self.bucket

    def __str__(self) -> str:
        options = [f"{name}={value}" for name in KNOWN if (value := getattr(self, name))]
        return f"s3://{self.bucket}/{self.prefix}" + ("?" + "&".join(options) if options else "")
