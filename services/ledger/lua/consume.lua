-- ASSIGNED -> CONSUMED for every group of one batch whose effect is durable; the payload goes, the manifest too.
-- Repeating it changes nothing. KEYS: epoch, manifests, ledger, live, then three per group: group, episodes, scores
-- ARGV: epoch, batch number, seconds a consumed record is kept, then the group ids
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
for i = 5, #KEYS, 3 do
  local state = redis.call('HGET', KEYS[i], 'state')
  if state ~= 'ASSIGNED' and state ~= 'CONSUMED' then
    return redis.error_reply('REFUSED ' .. KEYS[i] .. ' is ' .. (state or 'UNKNOWN'))
  end
end
local consumed = 0
for i = 5, #KEYS, 3 do
  local g = redis.call('HMGET', KEYS[i], 'state', 'purpose')
  if g[1] == 'ASSIGNED' then
    redis.call('HSET', KEYS[i], 'state', 'CONSUMED')
    redis.call('EXPIRE', KEYS[i], ARGV[3])
    redis.call('DEL', KEYS[i + 1], KEYS[i + 2])
    redis.call('SREM', KEYS[4], ARGV[4 + (i - 5) / 3])
    redis.call('HINCRBY', KEYS[3], 'consumed:' .. g[2], 1)
    consumed = consumed + 1
  end
end
redis.call('HINCRBY', KEYS[3], 'consumed', consumed)
redis.call('HDEL', KEYS[2], ARGV[2])
return consumed
