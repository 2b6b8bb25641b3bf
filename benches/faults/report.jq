# What `run` beside it measured, as one table in Markdown: medians of the rounds.
def median: sort | if length == 0 then null
  elif length % 2 == 1 then .[length / 2 | floor]
  else (.[length / 2 - 1] + .[length / 2]) / 2 end;

# Microseconds as milliseconds, to three digits at least.
def ms: if . == null then "-"
  elif . >= 100000 then . / 1000 | round | tostring
  elif . >= 10000 then . / 100 | round / 10 | tostring
  else . / 10 | round / 100 | tostring end;

def share: if . == 0 then "0" elif . < 0.01 then "<0.01" else . * 100 | round / 100 | tostring end;

def title: {
  slow: "slow node (stopped \($slow) of 50 ms)",
  disk: "slow disk (frozen for \($slow) ms, free for \(50 - ($slow | tonumber)))",
  loss: "lossy link (\($loss) % of packets)",
  stalled: "stalled node (SIGSTOP)",
  dead: "dead node (kill -9)"
}[.];

# Of the rounds of one phase: a kind's latency, and what of it did not succeed.
def latency($kind; $quantile): map(.[$kind].latency_us[$quantile]) | map(values) | median | ms;
def lost($kind): map(.[$kind] | if .due > 0 then (.due - .succeeded) * 100 / .due else 0 end) | median | share;

def row($kind):
  . as $all
  | ["before", "during", "after"]
  | map(. as $phase | $all | map(select(.phase == $phase)) | [latency($kind; "p50"), latency($kind; "p99"), lost($kind)])
  | add;

"| node1 | it was | of | before: p50 | p99 | not done, % | during: p50 | p99 | not done, % | after: p50 | p99 | not done, % |",
"|---|---|---|---|---|---|---|---|---|---|---|---|",
(reduce .[] as $one ([]; if any(.[]; .[0].fault == $one.fault and .[0].at == $one.at)
    then map(if .[0].fault == $one.fault and .[0].at == $one.at then . + [$one] else . end)
    else . + [[$one]] end)
  | .[]
  | . as $rounds
  | ("reads", "writes") as $kind
  | "| \($rounds[0].fault | title) | \($rounds[0].at) | \($kind) | \($rounds | row($kind) | join(" | ")) |")
