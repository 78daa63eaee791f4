#!/usr/bin/env python3
"""What do many replicas and sessions need of a Redis Cluster? Change a figure and run it again:
python3 docs/scaling.py replicas=1000 sessions=100e6"""

import sys

# What is wanted.
replicas = 1_000
sessions = 100e6
active = 0.10  # the share of sessions that refresh all the time
access_ttl = 15 * 60  # seconds
session_life = 30 * 24 * 3600  # seconds
revocations = 10  # a second, over all replicas
catch_up = 0.5  # seconds
overlap = 5  # seconds that each catch-up reads again
# What was measured; see scaling.md.
session_bytes = 390
refreshes_per_shard = 13_000  # a second; half of what one server did
entry_bytes = 420  # of a revocation in Redis; reckoned
view_bytes = 130  # of a revocation in a replica; reckoned
row_bytes = 90  # of a revocation on the wire; reckoned
# What a server should have at most.
shard_bytes = 12 * 2**30

for argument in sys.argv[1:]:
    name, _, value = argument.partition("=")
    if name not in globals():
        sys.exit(f"unknown figure `{name}`")
    globals()[name] = float(value)

GIB = 2**30
logins = sessions / session_life
refreshes = sessions * active / access_ttl
memory = sessions * session_bytes
by_memory = memory / shard_bytes
by_work = (refreshes + logins) / refreshes_per_shard
shards = max(by_memory, by_work, 1)
kept = revocations * session_life
kept_short = revocations * access_ttl
reads = replicas / catch_up
rows = revocations * overlap


def tell(what, figure, unit=""):
    print(f"{what:<58}{figure:>14,.1f} {unit}")


tell("logins", logins, "/s")
tell("refreshes", refreshes, "/s")
tell("sessions in Redis", memory / GIB, "GiB")
tell("shards by memory", by_memory)
tell("shards by work", by_work)
tell("shards, each with a replica", shards)
tell("connections of each shard (one of each gate)", replicas + replicas / shards)
tell("catch-ups, all at the shard of the log", reads, "/s")
tell("their answers", reads * rows * row_bytes / 2**20, "MiB/s")
tell("messages to each gate", revocations, "/s")
tell("messages to all gates", revocations * replicas, "/s")
tell("traffic of one revocation to all gates", replicas * row_bytes / 1024, "KiB")
tell("revocations kept, remembered for a session's life", kept)
tell("  in Redis", kept * entry_bytes / GIB, "GiB")
tell("  in each gate", kept * view_bytes / GIB, "GiB")
tell("  read by a gate that starts", kept * row_bytes / GIB, "GiB")
tell("revocations kept, remembered for an access token's life", kept_short)
tell("  in each gate", kept_short * view_bytes / 2**20, "MiB")
