-- Reads one of KEYS keys at random.
local keys = tonumber(os.getenv("KEYS"))
request = function()
  return wrk.format("GET", "/v1/kv/bench" .. math.random(0, keys - 1))
end
