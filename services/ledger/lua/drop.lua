-- any live state -> DROPPED(reason); a group that is no longer live stays as it is.
-- KEYS: epoch, ledger, live, groups stream, episodes stream, scored stream, group, episodes, scores
-- ARGV: epoch, reason, group id, seconds a dropped record is kept, consumer groups of the three streams. Returns 1 or 0.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
local g = redis.call('HMGET', KEYS[7], 'state', 'message')
if not g[1] or g[1] == 'CONSUMED' or g[1] == 'DROPPED' then return 0 end
local announced = { OPEN = 1, GENERATING = 1, COMPLETE = 2, SCORED = 3 }
local stream = announced[g[1]]
if stream then
  redis.call('XACK', KEYS[3 + stream], ARGV[4 + stream], g[2])
  redis.call('XDEL', KEYS[3 + stream], g[2])
end
redis.call('HSET', KEYS[7], 'state', 'DROPPED', 'reason', ARGV[2])
redis.call('EXPIRE', KEYS[7], ARGV[4])
redis.call('DEL', KEYS[8], KEYS[9])
redis.call('SREM', KEYS[3], ARGV[3])
redis.call('HINCRBY', KEYS[2], 'dropped:' .. ARGV[2], 1)
return 1
