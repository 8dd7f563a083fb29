-- COMPLETE -> SCORED with the scores; scoring again with the same bytes changes nothing.
-- KEYS: group, scores, episodes stream, scored stream. ARGV: scores payload, group id, consumer group of the episodes stream
local g = redis.call('HMGET', KEYS[1], 'state', 'message')
if g[1] == 'SCORED' or g[1] == 'ASSIGNED' then
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return redis.error_reply('REFUSED other scores than the stored ones') end
  return g[1]
end
if g[1] ~= 'COMPLETE' then return redis.error_reply('REFUSED ' .. (g[1] or 'UNKNOWN')) end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('XACK', KEYS[3], ARGV[3], g[2])
redis.call('XDEL', KEYS[3], g[2])
local id = redis.call('XADD', KEYS[4], '*', 'p', ARGV[2])
redis.call('HSET', KEYS[1], 'state', 'SCORED', 'message', id)
return 'SCORED'
