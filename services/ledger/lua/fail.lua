-- An attempt failed: GENERATING -> OPEN while fewer than max_attempts have failed, else -> DROPPED(reason). Attempts that
-- a pause, a drain or a dead worker cut short were begun and did not fail: they do not count here.
-- KEYS: group, episodes, groups stream, ledger, live
-- ARGV: attempt, cause, consumer group of the groups stream, group id, seconds a dropped record is kept,
--       1: the next attempt draws new noise, reason of the drop, 0, or of an attempt that was lost with the machinery:
--       how many the group may lose like that before it is dropped. Returns the state.
local g = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'max_attempts', 'message', 'opened', 'purpose')
if g[1] ~= 'GENERATING' then return redis.error_reply('REFUSED ' .. (g[1] or 'UNKNOWN')) end
if g[2] ~= ARGV[1] then return redis.error_reply('REFUSED attempt ' .. g[2] .. ' replaced attempt ' .. ARGV[1]) end
redis.call('XACK', KEYS[3], ARGV[3], g[4])
redis.call('XDEL', KEYS[3], g[4])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'cause', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'redrawn', ARGV[6])
local lost = tonumber(ARGV[8]) > 0
local most = tonumber(lost and ARGV[8] or g[3])
if redis.call('HINCRBY', KEYS[1], lost and 'lost' or 'failed', 1) < most then
  redis.call('HINCRBY', KEYS[4], 'retried', 1)
  local id = redis.call('XADD', KEYS[3], '*', 'p', g[5])
  redis.call('HSET', KEYS[1], 'state', 'OPEN', 'message', id)
  return 'OPEN'
end
redis.call('HSET', KEYS[1], 'state', 'DROPPED', 'reason', ARGV[7])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('SREM', KEYS[5], ARGV[4])
redis.call('HINCRBY', KEYS[4], 'dropped:' .. ARGV[7], 1)
return 'DROPPED'
