-- SCORED -> ASSIGNED for every group of one batch, all or none, and store the batch's manifest.
-- KEYS: epoch, manifests, scored stream, then the groups
-- ARGV: epoch, batch number, manifest, consumer group of the scored stream
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
for i = 4, #KEYS do
  local state = redis.call('HGET', KEYS[i], 'state')
  if state ~= 'SCORED' then return redis.error_reply('REFUSED ' .. KEYS[i] .. ' is ' .. (state or 'UNKNOWN')) end
end
for i = 4, #KEYS do
  local id = redis.call('HGET', KEYS[i], 'message')
  redis.call('XACK', KEYS[3], ARGV[4], id)
  redis.call('XDEL', KEYS[3], id)
  redis.call('HSET', KEYS[i], 'state', 'ASSIGNED', 'batch', ARGV[2])
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return #KEYS - 3
