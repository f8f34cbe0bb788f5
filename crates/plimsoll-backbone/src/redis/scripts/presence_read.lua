-- KEYS: members, users, leases. ARGV: most; "" = only count.
-- Answers clients, users, then client and member of each, or only clients and users when there
-- are more than that.
local members, users, leases = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A node that did not renew its lease is gone, and its members with it.
local all, gone, some = redis.call('HGETALL', leases), {}, false
for i = 1, #all, 2 do
  if (tonumber(all[i + 1]) or 0) <= now then
    gone[all[i]], some = true, true
    redis.call('HDEL', leases, all[i])
  end
end
if some then
  local list = redis.call('HGETALL', members)
  for i = 1, #list, 2 do
    local member = list[i + 1]
    if gone[string.sub(member, 1, 16)] then
      redis.call('HDEL', members, list[i])
      local user = string.sub(member, 21, 20 + tonumber(string.sub(member, 17, 20), 16))
      if redis.call('HINCRBY', users, user, -1) <= 0 then redis.call('HDEL', users, user) end
    end
  end
end
local count = redis.call('HLEN', members)
local out = { count, redis.call('HLEN', users) }
if ARGV[1] ~= '' and count <= tonumber(ARGV[1]) then
  local list = redis.call('HGETALL', members)
  for i = 1, #list do out[i + 2] = list[i] end
end
return out
