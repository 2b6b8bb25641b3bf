# The rows of the table of `original.sh`: medians of the rounds.
def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def ms: . / 10000 | round / 100;

group_by([.load, .system]) | sort_by([.[0].load == "reads", .[0].system]) | .[]
| "| \(.[0].rate) \(.[0].load)/s | \(.[0].system) | \(map(.success) | median * 10000 | round / 100) % "
  + "| \(map(.throughput) | median | round) | \(map(.latencies.mean) | median | ms) "
  + "| \(map(.latencies["50th"]) | median | ms) | \(map(.latencies["99th"]) | median | ms) |"
