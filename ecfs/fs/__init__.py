"""POSIX semantics without FUSE: what a name, a file, an attribute and an open handle mean.

Every operation is: check what needs no state, ``await`` admission (`FileData.admit`), then one stretch *without* await
inside ``db.atomic()`` that validates and changes. Adding an ``await`` to that stretch is a semantic change: requests
run as tasks of one thread, and the stretch is what makes an operation one moment in time.

Who may do what (mode bits, owners, the sticky bit) is checked by the kernel before a request gets here (mount option
``default_permissions``); the side effects of what was allowed belong to this room.
"""
