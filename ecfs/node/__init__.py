"""The storage node: one directory as a drive for other machines, over gRPC."""
