-- Which live groups have no entry in the stream that announces them. KEYS: groups stream, episodes stream, then the groups
-- Returns, for each group, the id of the entry that is gone; '' where it is there, or where the state needs none.
local announced = { OPEN = 1, GENERATING = 1, COMPLETE = 2 }
local lost = {}
for i = 3, #KEYS do
  local g = redis.pcall('HMGET', KEYS[i], 'state', 'message')
  local stream, entry = announced[g[1] or ''], g[2] or 'none'
  lost[i - 2] = ''
  if stream then
    local found = redis.pcall('XRANGE', KEYS[stream], entry, entry)
    if found.err or #found == 0 then lost[i - 2] = entry end
  end
end
return lost
