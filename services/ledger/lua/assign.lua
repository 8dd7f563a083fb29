-- SCORED -> ASSIGNED for every group of one batch, all or none, and store the batch's manifest. Repeatable.
-- KEYS: epoch, manifests, scored stream, then the groups
-- ARGV: epoch, batch number, manifest, consumer group of the scored stream
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
for i = 4, #KEYS do
  local g = redis.call('HMGET', KEYS[i], 'state', 'batch')
  local repeated = g[1] == 'ASSIGNED' and g[2] == ARGV[2] and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3]
  if g[1] ~= 'SCORED' and not repeated then
    return redis.error_reply('REFUSED ' .. KEYS[i] .. ' is ' .. (g[1] or 'UNKNOWN'))
  end
end
for i = 4, #KEYS do
  local g = redis.call('HMGET', KEYS[i], 'state', 'message')
  if g[1] == 'SCORED' then
    redis.call('XACK', KEYS[3], ARGV[4], g[2])
    redis.call('XDEL', KEYS[3], g[2])
    redis.call('HSET', KEYS[i], 'state', 'ASSIGNED', 'batch', ARGV[2])
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return #KEYS - 3
