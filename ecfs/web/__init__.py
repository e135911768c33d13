"""The status page and the metrics of a mounted pool, served by its daemon over HTTP.

A request never reaches a drive: everything is answered from what the daemon has in memory, looked at once per second
whatever the number of viewers (`view`). Who is let in is `guard`'s business, how many and for how long `server`'s.
"""
