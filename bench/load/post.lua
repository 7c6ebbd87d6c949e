-- wrk's request: POST with the body in the file that the first argument names. Ends with one line of JSON.
local prepared

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local headers = { ["Content-Type"] = "application/octet-stream" }
  prepared = wrk.format("POST", nil, headers, file:read("*a"))
  file:close()
end

function request()
  return prepared
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50": %.6f, "p99": %.6f}\n',
    summary.requests, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
