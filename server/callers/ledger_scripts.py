"""What Redis does in one step: Lua, since nothing else can look and count without a gap.

Keys of a caller I, under the prefix:

    used:I             hash: lifetime, day, today                  for good
    charge:ID          string: "SAMPLES DAY" of an open charge, or "void"
    once:I:PLACE       hash: print, charge, owner, state, until, answer
                                                                   for the idempotency window
    onces:I            sorted set: places by when they are forgotten

A charge that was given back is *void*: the name stays for a while, so that a charge that was on its
way when Redis hung, and arrives after its refund, counts nothing.

A remembered request has an *owner*: the attempt, by the id of its own charge, that answers it now,
nobody else before ``until``. Its charge is that of the first attempt, whoever owns it. The end of
an attempt may be told late, or twice: it takes nothing from another one that has taken over.
"""

from __future__ import annotations

__all__ = ["CHARGE", "GIVE_BACK", "LEAVE", "SETTLE"]

CHARGE = """
-- KEYS: used, charge, once, onces
-- ARGV: samples, per day or -1, lifetime or -1, seconds a charge is kept, its id,
--       then with an idempotency key: print, window ms, lease ms, most, place, prefix of once
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local day = math.floor(clock[1] / 86400)
local samples, per_day, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[2]) == 1 then return {'void'} end
if ARGV[6] then
  local known = redis.call('HMGET', KEYS[3], 'print', 'charge', 'state', 'until', 'answer')
  if known[1] then
    if known[1] ~= ARGV[6] then return {'conflict'} end
    if known[5] then return {'stored', known[5]} end
    local left = tonumber(known[4]) - now
    if left > 0 then return {'pending', left} end
    redis.call('HSET', KEYS[3], 'owner', ARGV[5], 'until', now + ARGV[8])
    return {'again', known[2], known[3] == 'paid' and 1 or 0}
  end
end
local used = redis.call('HMGET', KEYS[1], 'lifetime', 'day', 'today')
local ever = tonumber(used[1] or 0)
local today = 0
if tonumber(used[2] or 0) >= day then today, day = tonumber(used[3]), tonumber(used[2]) end
local fits = lifetime < 0 or ever + samples <= lifetime
if not fits or (per_day >= 0 and today + samples > per_day) then
  return {'over', today, ever, 86400 - clock[1] % 86400}
end
redis.call('HSET', KEYS[1], 'lifetime', ever + samples, 'day', day, 'today', today + samples)
redis.call('SET', KEYS[2], samples .. ' ' .. day, 'EX', ARGV[4])
if ARGV[6] then
  redis.call('HSET', KEYS[3], 'print', ARGV[6], 'charge', ARGV[5], 'owner', ARGV[5],
    'state', 'working', 'until', now + ARGV[8])
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  redis.call('ZADD', KEYS[4], now + ARGV[7], ARGV[10])
  redis.call('PEXPIRE', KEYS[4], ARGV[7])
  local beyond = redis.call('ZCARD', KEYS[4]) - ARGV[9]
  if beyond > 0 then
    for _, place in ipairs(redis.call('ZRANGE', KEYS[4], 0, beyond - 1)) do
      redis.call('DEL', ARGV[11] .. place)
      redis.call('ZREM', KEYS[4], place)
    end
  end
end
return {'charged', today + samples, ever + samples}
"""

GIVE_BACK = """
-- KEYS: used, charge, once, onces; ARGV: attempt, id of the charge, seconds its name is kept, place
local known = redis.call('HMGET', KEYS[3], 'charge', 'owner', 'state')
if known[1] == ARGV[2] then
  if known[2] ~= ARGV[1] then return 0 end
  if known[3] == 'paid' then
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[3], 'until', 0)
    return 0
  end
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[4])
elseif known[2] == ARGV[1] then
  -- Its caller was never told that it owns the request, nor who paid for it.
  redis.call('HSET', KEYS[3], 'until', 0)
end
local held = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], 'void', 'EX', ARGV[3])
if not held or held == 'void' then return 0 end
local samples, day = string.match(held, '(%d+) (%d+)')
redis.call('HINCRBY', KEYS[1], 'lifetime', -samples)
if redis.call('HGET', KEYS[1], 'day') == day then
  redis.call('HINCRBY', KEYS[1], 'today', -samples)
end
return tonumber(samples)
"""

SETTLE = """
-- KEYS: charge, once; ARGV: attempt, id of the charge, answer or nothing
redis.call('DEL', KEYS[1])
local known = redis.call('HMGET', KEYS[2], 'charge', 'owner')
if known[1] ~= ARGV[2] then return 0 end
-- Answered is answered, also by one whose lease ran out meanwhile; the lease stays the owner's.
redis.call('HSET', KEYS[2], 'state', 'paid')
if ARGV[3] then redis.call('HSETNX', KEYS[2], 'answer', ARGV[3]) end
if known[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'until', 0)
return 1
"""

LEAVE = """
-- KEYS: charge, once; ARGV: attempt, id of the charge
local known = redis.call('HMGET', KEYS[2], 'charge', 'owner')
if known[1] ~= ARGV[2] then
  redis.call('DEL', KEYS[1])
  return 0
end
if known[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'until', 0)
return 1
"""
