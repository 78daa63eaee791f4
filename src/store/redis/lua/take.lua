-- Takes a refresh token, as FamilyRecord::take does.
-- KEYS: family. ARGV: place, next_expires, now, grace, ttl of the next.
local held = redis.call('HMGET', KEYS[1], 's', 'e', 'g', 'r')
if not held[1] then return { 'unknown' } end
local now, place = tonumber(ARGV[3]), tonumber(ARGV[1])
local newest, rotated = tonumber(held[3]), tonumber(held[4])
if now >= tonumber(held[2]) then return { 'unknown' } end
if place == newest then
  local next = string.format('%.0f', newest + 1)
  redis.call('HSET', KEYS[1], 'e', ARGV[2], 'g', next, 'r', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
  return { 'next', held[1] }
end
if place + 1 == newest and now <= rotated + tonumber(ARGV[4]) then
  return { 'again', held[4] }
end
redis.call('UNLINK', KEYS[1])
return { 'reused' }
