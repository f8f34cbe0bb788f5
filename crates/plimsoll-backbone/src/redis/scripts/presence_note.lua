-- KEYS: members, users, leases of each channel. ARGV: lease, then for each:
-- "+" (add), client, member; or "-" (remove), client, node.
-- A member is: node (16), length of user (4 hexadecimal digits), user, info.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease)
local function user(member)
  return string.sub(member, 21, 20 + tonumber(string.sub(member, 17, 20), 16))
end
local k, a = 1, 2
while ARGV[a] do
  local members, users, leases = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local client, value = ARGV[a + 1], ARGV[a + 2]
  local old = redis.call('HGET', members, client)
  local gone
  if ARGV[a] == '+' then
    redis.call('HSET', members, client, value)
    local now = user(value)
    if not old or user(old) ~= now then
      redis.call('HINCRBY', users, now, 1)
      gone = old
    end
    redis.call('HSET', leases, string.sub(value, 1, 16), ends)
    redis.call('PEXPIRE', members, lease)
    redis.call('PEXPIRE', users, lease)
    redis.call('PEXPIRE', leases, lease)
  elseif old and string.sub(old, 1, 16) == value then
    redis.call('HDEL', members, client)
    gone = old
  end
  if gone and redis.call('HINCRBY', users, user(gone), -1) <= 0 then
    redis.call('HDEL', users, user(gone))
  end
  k, a = k + 3, a + 3
end
return 1
