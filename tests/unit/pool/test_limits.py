"""Limits in the pool file: what they set, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecfs.errors import UsageError
from ecfs.mount.volume import settings_of
from ecfs.pool.poolfile import default_pool_file, read_pool_file, render_pool_file


def written(folder: Path, text: str) -> Path:
    path = folder / "pool.toml"
    path.write_text(render_pool_file(default_pool_file(folder, 4, 2)) + text)
    return path


def test_limits_become_settings(tmp_path: Path) -> None:
    file = read_pool_file(written(tmp_path, "[limits]\ncache_mib = 100\nmax_commit_s = 2\n"))
    settings = settings_of(file)
    assert (settings.cache_bytes, settings.max_commit_s) == (100 << 20, 2)
    assert settings_of(default_pool_file(tmp_path, 4, 2)).cache_bytes == 32 << 20
    again = tmp_path / "again.toml"
    again.write_text(render_pool_file(file))
    assert read_pool_file(again).limits == file.limits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\ncahce_mib = 5\n", "unknown key 'cahce_mib'; did you mean 'cache_mib'?"),
        ("[limits]\ndirty_mib = 1\n", "dirty_mib must be between 20 and"),
        ("[limits]\ncache_mib = 1.5\n", "cache_mib must be a whole number"),
        ("[limits]\ncache_mib = -1\n", "must be a whole number"),
        ("[limits]\ncache_mib = 99999999999\n", "must be between 1 and"),
        ("limits = 5\n", "unknown key"),
        ("[limit]\n", "unknown key 'limit'; did you mean 'limits'?"),
    ],
)
def test_bad_limits_are_refused_with_what_to_do(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_pool_file(written(tmp_path, text))
    assert said in str(error.value)
