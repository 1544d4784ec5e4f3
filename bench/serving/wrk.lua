-- wrk -s wrk.lua URL -- FILE [AUTHORIZATION]: posts the bodies of FILE, one a line, in turn; ends with one line of JSON.
local requests, count, at = {}, 0, 0

function init(args)
  local headers = { ["Content-Type"] = "application/json" }
  if args[2] then headers["Authorization"] = args[2] end
  for line in io.lines(args[1]) do
    count = count + 1
    requests[count] = wrk.format("POST", nil, headers, line)
  end
end

function request()
  at = at % count + 1
  return requests[at]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d,"worst":%d}\n',
    summary.requests, summary.duration, e.status + e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
