"""The protocol between ingests, as scripts that Redis executes as one step each.

Any number of ingests may call them at any time, and any call may reach Redis late, or twice. The three keys of a
stream hold all there is to know:

- ``events``: the entries, see `entries`.
- ``state``: ``fence`` (term and nonce of the current holder), ``term``, ``holder`` (its host and process), ``seq``
  (the number of the last entry), ``last_id`` (the upstream's last event ID after it), ``upstream`` (a hash of the
  URL), and ``ended`` (the number of the last entry if it says that the upstream has ended the stream, else empty).
- ``lease``: the fence of the holder; it expires.

Invariants that the scripts keep, and that ``tests/redis/test_protocol.py`` checks:

1. Only a caller whose fence equals that in ``state`` adds entries. No decision depends on time: the lease only
   decides how soon another may take over.
2. The ``seq`` of an entry is one more than that of the entry before, and ``state.seq`` is that of the last one.
3. ``state.last_id`` is the last event ID after the last entry: an ingest that resumes there leaves nothing out.
4. A call that is repeated changes nothing but the lease.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from .connections import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .connections import Client
    from .entries import Keys

# If an append was cut in two, as a damaged append-only file can do, the last entry has a higher number than `state`.
# It counts, because consumers may have seen it (2, 3).
_POSITION = """
local function position()
  local state = redis.call('HMGET', KEYS[2], 'seq', 'last_id')
  local seq, last_id = tonumber(state[1]) or 0, state[2] or ''
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if last then
    local fields = {}
    for i = 1, #last[2], 2 do fields[last[2][i]] = last[2][i + 1] end
    local entry = tonumber(fields.seq)
    if entry and entry > seq then
      seq, last_id = entry, fields.id or fields.last_id or ''
    end
  end
  return seq, last_id
end
"""

# Arguments: nonce, lease in ms, upstream, holder, the value of `ended` that the caller knows ("?" at its first call).
# Become the holder, unless there is one. A new holder has a new fence, which excludes the one before from now on (1).
# The nonce makes fences unique, because terms repeat if Redis loses its newest data. The same nonce is a repeated
# call: it gets the same fence (4). A lease with another fence than `state` is void: `state` was lost meanwhile.
_ACQUIRE = """
local state = redis.call('HMGET', KEYS[2], 'fence', 'term', 'upstream', 'ended')
local fence, ended = state[1], state[4] or ''
if state[3] and state[3] ~= ARGV[3] then return {'OTHER_UPSTREAM', 0, '', '', ''} end
if ended ~= '' and ARGV[5] ~= '?' and ARGV[5] ~= ended then return {'ENDED', 0, '', '', ended} end
local seq, last_id = position()
local is_own = fence and string.match(fence, '^%d+:(.*)$') == ARGV[1]
if fence and not is_own and redis.call('GET', KEYS[3]) == fence then
  return {'HELD', seq, last_id, '', ended}
end
if not is_own then
  local term = (tonumber(state[2]) or 0) + 1
  fence = term .. ':' .. ARGV[1]
  redis.call('HSET', KEYS[2], 'fence', fence, 'term', term, 'holder', ARGV[4], 'upstream', ARGV[3], 'seq', seq,
    'last_id', last_id)
end
redis.call('SET', KEYS[3], fence, 'PX', ARGV[2])
return {'ACQUIRED', seq, last_id, fence, ended}
"""

# Arguments: fence, wanted seq, lease in ms, maximum number of entries, number of new entries, last event ID after
# them, 1 if the last one ends the stream; for each entry the number of names and values of its fields, and these.
# Add entries after the wanted one, and renew the lease; without entries, only renew it. The wanted seq detects a
# repeated call (ALREADY, 4), and data that Redis has lost (REWIND): the caller begins anew from `state` (2, 3).
# All reads come before the first write, and out of memory that write fails: nothing is done by halves.
_APPEND = """
if redis.call('HGET', KEYS[2], 'fence') ~= ARGV[1] then return {'FENCED', 0, '', '', ''} end
local seq, last_id = position()
local wanted, count = tonumber(ARGV[2]), tonumber(ARGV[5])
local status = 'ALREADY'
if seq ~= wanted + count then
  if seq ~= wanted then return {'REWIND', seq, last_id, '', ''} end
  status = 'ADDED'
  local at = 8
  for _ = 1, count do
    local size = tonumber(ARGV[at])
    seq = seq + 1
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'seq', seq, unpack(ARGV, at + 1, at + size))
    at = at + size + 1
  end
  last_id = ARGV[6]
  redis.call('HSET', KEYS[2], 'seq', seq, 'last_id', last_id, 'ended', ARGV[7] == '1' and seq or '')
end
if redis.call('PEXPIRE', KEYS[3], ARGV[3]) == 0 then
  redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
end
return {status, seq, last_id, '', ''}
"""

# Argument: fence.
# End the lease, so that another can take over at once.
_RELEASE = """
if redis.call('HGET', KEYS[2], 'fence') ~= ARGV[1] then return {'FENCED', 0, '', '', ''} end
redis.call('DEL', KEYS[3])
return {'RELEASED', 0, '', '', ''}
"""


class Status(Enum):
    """What a script did."""

    ACQUIRED = b"ACQUIRED"
    HELD = b"HELD"
    ENDED = b"ENDED"
    OTHER_UPSTREAM = b"OTHER_UPSTREAM"
    ADDED = b"ADDED"
    ALREADY = b"ALREADY"
    FENCED = b"FENCED"
    REWIND = b"REWIND"
    RELEASED = b"RELEASED"


class Answer(NamedTuple):
    """The answer of a script; a part without a meaning for its status is 0 or empty."""

    status: Status
    seq: int
    """The number of the last entry, 0 if there was none yet."""
    last_id: str
    """The upstream's last event ID after that entry."""
    fence: str
    """The caller's fence, after `Status.ACQUIRED`."""
    ended: str
    """The value of ``state.ended``, after `acquire`."""

    @property
    def term(self) -> int:
        """How many holders there have been, after `Status.ACQUIRED`."""
        return int(self.fence.partition(":")[0])


class Script:
    """A script, sent as its hash; as a whole if Redis does not know it."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def __call__(self, client: Client, keys: Keys, *arguments: str | bytes | int) -> Answer:
        """Execute it once.

        :raises RedisError: as `Client.execute`.
        """
        rest = (len(keys), *keys, *arguments)
        try:
            status, seq, *texts = client.execute("EVALSHA", self.sha, *rest)
        except NoScriptError:  # nothing was executed
            status, seq, *texts = client.execute("EVAL", self.source, *rest)
        return Answer(Status(status), int(seq), *(text.decode() for text in texts))


_acquire = Script(_POSITION + _ACQUIRE)
_append = Script(_POSITION + _APPEND)
_release = Script(_RELEASE)


class Scripts:
    """The scripts for one stream.

    :param client: executes them.
    :param keys: the keys of the stream.
    :param lease: seconds for which an ingest is the holder after a call.
    :param maxlen: about how many entries to keep.
    """

    def __init__(self, client: Client, keys: Keys, *, lease: float, maxlen: int) -> None:
        self._client = client
        self._keys = keys
        self._lease = round(lease * 1000)
        self._maxlen = maxlen

    def acquire(self, nonce: str, upstream: str, holder: str, ended: str | None = None) -> Answer:
        """Become the holder: ACQUIRED, HELD by another, ENDED or OTHER_UPSTREAM.

        :param nonce: the same for repeated calls, until one is answered with ACQUIRED.
        :param upstream: identifies the upstream.
        :param holder: identifies the caller, for people.
        :param ended: `Answer.ended` of the call before: another value is ENDED. None if there was no call before.
        """
        known = "?" if ended is None else ended
        return _acquire(self._client, self._keys, nonce, self._lease, upstream, holder, known)

    def append(
        self,
        fence: str,
        wanted: int,
        entries: Sequence[Sequence[bytes]] = (),
        last_id: str = "",
        *,
        ends: bool = False,
    ) -> Answer:
        """Add entries and renew the lease: ADDED, ALREADY, FENCED or REWIND.

        :param wanted: the number of the entry that they follow.
        :param entries: the fields of each, without ``seq``; with none, only renew the lease, which is ALREADY.
        :param last_id: the upstream's last event ID after the last of them.
        :param ends: whether the last of them says that the upstream has ended the stream.
        """
        flat: list[bytes | int] = []
        for fields in entries:
            flat += [len(fields), *fields]
        return _append(
            self._client,
            self._keys,
            fence,
            wanted,
            self._lease,
            self._maxlen,
            len(entries),
            last_id,
            int(ends),
            *flat,
        )

    def release(self, fence: str) -> Answer:
        """End the lease: RELEASED or FENCED."""
        return _release(self._client, self._keys, fence)
