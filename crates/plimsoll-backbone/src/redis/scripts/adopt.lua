-- KEYS: generation. ARGV: process, new generation, other processes that are masters now.
-- A server process that writes here for the first time begins a new generation, and with it every
-- channel a new epoch: what another acknowledged may be lost. It is done on each new link, so that
-- a process that was in charge for a moment only is noticed as well. What was moved here from a
-- master that is alive (slots of a Cluster) has lost nothing.
local g = redis.call('GET', KEYS[1])
if g and string.sub(g, 1, -10) == ARGV[1] then return 0 end
local generation = ARGV[2]
for i = 3, #ARGV do
  if g and string.sub(g, 1, -10) == ARGV[i] then generation = string.sub(g, -8) end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. generation)
return 1
