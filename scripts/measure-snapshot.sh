#!/usr/bin/env bash
# What it costs to add a node to a cluster with much state: three nodes are filled, then a fourth joins by snapshot while
# clients write. Prints the size and speed of the snapshot, what clients saw before and during it, and how much memory
# the sender and the receiver took beyond what they had taken before.
#
# usage: scripts/measure-snapshot.sh [MIB]     MiB of messages to fill with (default 1024)
#
# Uses the release build, loopback ports from 7601, and a temporary directory on the disk of this tree, which it removes.
# Needs about nine times MIB of free space there. Exit codes: 0 measured, 1 something failed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mib=${1:-1024}
[[ $mib =~ ^[1-9][0-9]*$ ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bin=$PWD/target/release
[[ -x $bin/chat-node ]] || { echo "measure-snapshot: run \`cargo build --release\` first" >&2; exit 1; }
PATH=$bin:$PATH
work=$(mktemp -d "$PWD/target/measure-snapshot.XXXXXX")
export CHAT_ACCOUNT_WRITES_PER_SECOND=0 CHAT_ADDRESS_REQUESTS_PER_SECOND=0
# A snapshot only when asked for, and no log behind it: the fourth node must take the snapshot.
export CHAT_SNAPSHOT_ENTRIES=100000000 CHAT_KEEP_ENTRIES=0
export CHAT_ENDPOINTS=127.0.0.1:7601,127.0.0.1:7602,127.0.0.1:7603,127.0.0.1:7604
export CHAT_SERVERS=$CHAT_ENDPOINTS
declare -A pid=()

clean_up() {
    trap - EXIT INT TERM
    kill -9 "${pid[@]}" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT INT TERM

start() {
    chat-node run --data-dir "$work/$1" --name "$1" --listen "127.0.0.1:760${1#n}" --log warn 2> "$work/$1.log" &
    pid[$1]=$!
}

until_true() {
    local deadline=$((SECONDS + 30))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { echo "measure-snapshot: not within 30 s: $*" >&2; exit 1; }
        sleep 0.1
    done
}

listens() { (exec 3<> "/dev/tcp/127.0.0.1/760${1#n}"); }

memory_kib() { awk "/^$2:/ { print \$2 }" "/proc/${pid[$1]}/status"; }

# The most memory a process has taken since this was called is its VmHWM.
forget_peak() { echo 5 > "/proc/${pid[$1]}/clear_refs"; }

figure() { sed -n "s/.*\"$1\": *\"\{0,1\}\([0-9.]*\).*/\1/p" <<< "$2"; }

echo "filling three nodes with $mib MiB"
chat-node init --data-dir "$work/n1" --name n1 --listen 127.0.0.1:7601 > "$work/init.log"
start n1
until_true listens n1
until_true chat-admin status
for node in n2 n3; do
    start "$node"
    until_true listens "$node"
    chat-admin add-node "$node" "127.0.0.1:760${node#n}" > "$work/$node.added" 2>&1
done
filled=0
while ((filled < mib)); do
    result=$(chat bench --clients 64 --bytes 32768 --duration 5s --keep --json 2> "$work/talk")
    filled=$((filled + $(figure writes "$result") * 32 / 1024))
    echo "  $filled MiB"
done
chat-admin snapshot > "$work/compacted"

before=$(chat bench --clients 16 --duration 15s --json 2> "$work/talk")
leader=$(chat-admin status --json | sed -n 's/.*"leaderAddress": *"127.0.0.1:760\([0-9]\)".*/n\1/p' | head -n 1)
start n4
until_true listens n4
declare -A idle=()
for node in "$leader" n4; do
    idle[$node]=$(memory_kib "$node" VmRSS)
    forget_peak "$node"
done
chat bench --clients 16 --duration 600s --json > "$work/during" 2> "$work/talk" &
bench=$!
# The accounts are made first; password hashes must not be part of the measurement.
sleep 2
began=$(date +%s%N)
chat-admin add-node n4 127.0.0.1:7604 --json > "$work/added" 2> "$work/talk"
ended=$(date +%s%N)
kill -INT "$bench"
wait "$bench"
during=$(< "$work/during")

bytes=$(grep -o '"bytesTotal": *"[0-9]*"' "$work/added" | grep -o '[0-9]*' | sort -n | tail -n 1)
[[ -n $bytes ]] || { echo "measure-snapshot: the node joined without a snapshot" >&2; exit 1; }
awk -v bytes="$bytes" -v ns="$((ended - began))" 'BEGIN {
    printf "the fourth node took a state file of %.0f MiB and was a voter after %.1f s: %.0f MiB/s\n", \
        bytes / 1048576, ns / 1e9, bytes / 1048576 / (ns / 1e9) }'
for when in before during; do
    echo "16 clients $when: $(figure writesPerSecond "${!when}" | cut -d. -f1) writes/s, p50 $(figure p50Ms "${!when}") ms," \
        "p99 $(figure p99Ms "${!when}") ms, $(figure errors "${!when}") errors"
done
for node in "$leader" n4; do
    role=receiver
    [[ $node == "$leader" ]] && role=sender
    echo "$role: $((idle[$node] / 1024)) MiB before, at most $((($(memory_kib "$node" VmHWM) - idle[$node]) / 1024)) MiB more during"
done
chat-admin verify
