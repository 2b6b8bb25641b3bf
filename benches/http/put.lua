-- Writes 256 bytes to one of KEYS keys at random.
local keys = tonumber(os.getenv("KEYS"))
local value = string.rep("v", 256)
request = function()
  return wrk.format("PUT", "/v1/kv/bench" .. math.random(0, keys - 1), nil, value)
end
