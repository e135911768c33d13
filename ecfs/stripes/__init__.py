"""The stripe store over drives: encodes, places, reads, proves and rebuilds stripes. Knows no files and no commits.

`fact` what the metadata knows of a stripe · `access` the drives as this room sees them · `verdict` is this enough?,
pure · `fetch` verified pieces of one shard · `writer` · `reader`,
`reading`, `hedge`, `bad`, `cache`, `prefetch` the read path · `rebuild` · `pins`.
"""
