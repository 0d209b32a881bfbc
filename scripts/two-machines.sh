#!/usr/bin/env bash
# Two machines on one computer: two network namespaces with addresses of their own and a switch between them. Five
# nodes, three on host a and two on host b, while people on both hosts chat without pause and `chat-admin probe` keeps a
# ledger. Nodes are killed, the cable is pulled, a node is added, a host is restarted; in the end every acknowledged
# message must be there, once, in order.
#
# usage: scripts/two-machines.sh [--short] [--bin DIR] [--transcript FILE]
#        scripts/two-machines.sh --possible       whether this machine can do it; says why not
#   --short            less time between the faults (for CI)
#   --bin DIR          where chat-node, chat-admin and chat are (default: target/release, else target/debug)
#   --transcript FILE  write the operator's commands and what they printed
#
# Needs root and iproute2. Touches nothing outside its own namespaces and a temporary directory, and removes both
# however it ends. Exit codes: 0 all passed, 8 something failed, 2 wrong usage, 1 it could not be set up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dwell=5
bin=
transcript=/dev/null
while (($#)); do
    case $1 in
    --short) dwell=1 ;;
    --bin) bin=${2:?--bin needs a directory} && shift ;;
    --transcript) transcript=${2:?--transcript needs a file} && shift ;;
    --possible)
        [[ $EUID -eq 0 ]] || { echo "needs root"; exit 1; }
        command -v ip >/dev/null || { echo "needs ip, of iproute2"; exit 1; }
        probe=quorate-$$-probe
        ip netns add "$probe" 2>/dev/null || { echo "network namespaces are not allowed here"; exit 1; }
        code=0
        ip -n "$probe" link add v0 type veth peer name v1 2>/dev/null && ip -n "$probe" link add s0 type bridge 2>/dev/null || code=1
        ip netns del "$probe"
        ((code == 0)) || echo "virtual links or bridges are not allowed here"
        exit "$code"
        ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done
why=$("$0" --possible) || { echo "two-machines: $why" >&2; exit 1; }
if [[ -z $bin ]]; then
    bin=target/debug
    [[ -x target/release/chat-node ]] && bin=target/release
fi
[[ -x $bin/chat-node ]] || { echo "two-machines: no programs in $bin: run \`cargo build --release\` first" >&2; exit 1; }

# ---- the hosts ------------------------------------------------------------------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/quorate-two-machines.XXXXXX")
a=quorate-$$-a b=quorate-$$-b switch=quorate-$$-s
declare -A host=([n1]=a [n2]=a [n3]=a [n4]=b [n5]=b [n6]=b)
declare -A address=([n1]=10.77.0.1:7401 [n2]=10.77.0.1:7402 [n3]=10.77.0.1:7403
    [n4]=10.77.0.2:7401 [n5]=10.77.0.2:7402 [n6]=10.77.0.2:7403)
declare -A pid=()

clean_up() {
    local code=$? namespace processes
    trap - EXIT INT TERM
    set +e
    touch "$work/stop"
    for namespace in "$a" "$b"; do
        # Only what runs in the namespaces made here.
        processes=$(ip netns pids "$namespace" 2>/dev/null)
        [[ -n $processes ]] && kill -9 $processes 2>/dev/null
    done
    wait 2>/dev/null
    for namespace in "$a" "$b" "$switch"; do ip netns del "$namespace" 2>/dev/null; done
    rm -rf "$work"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

set_up_hosts() {
    ip netns add "$switch"
    ip -n "$switch" link add br0 type bridge
    ip -n "$switch" link set br0 up
    local name namespace number=0
    for name in a b; do
        namespace=quorate-$$-$name number=$((number + 1))
        ip netns add "$namespace"
        ip -n "$namespace" link set lo up
        ip -n "$switch" link add "port-$name" type veth peer name eth0 netns "$namespace"
        ip -n "$switch" link set "port-$name" master br0
        ip -n "$switch" link set "port-$name" up
        ip -n "$namespace" addr add "10.77.0.$number/24" dev eth0
        ip -n "$namespace" link set eth0 up
    done
}

on() { # HOST COMMAND...
    local name=$1
    shift
    ip netns exec "quorate-$$-$name" "$@"
}

cable() { ip -n "$switch" link set port-b "$1"; } # The port loses its carrier: what a pulled plug does.

# ---- the nodes ------------------------------------------------------------------------------------------------------

run_node() { # NAME ARGUMENTS...
    local name=$1
    shift
    # Not by way of `on`: the process id must be the node's own, not that of a shell in between.
    ip netns exec "quorate-$$-${host[$name]}" "$bin/chat-node" run --data-dir "$work/$name" "$@" >>"$work/$name.log" 2>&1 &
    pid[$name]=$!
}

kill_node() { # NAME...
    local name
    for name in "$@"; do
        kill -9 "${pid[$name]}"
        wait "${pid[$name]}" 2>/dev/null || true
    done
}

everyone() {
    local IFS=,
    echo "${address[*]}"
}

admin() { # HOST ARGUMENTS...: as the operator on that host
    local name=$1 code=0
    shift
    on "$name" "$bin/chat-admin" -e "$(everyone)" "$@" >"$work/admin.out" 2>&1 || code=$?
    { echo "$name\$ chat-admin $*"; cat "$work/admin.out"; echo; } >>"$transcript"
    cat "$work/admin.out"
    return "$code"
}

leader() { admin a --timeout 2s status 2>/dev/null | sed -n 's/^cluster .* leader \([^ ]*\) .*/\1/p'; }
a_leader() { [[ -n $(leader) ]]; }
level() { admin a --timeout 3s verify >/dev/null 2>&1; }

eventually() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < until)) || return 1
        sleep 0.1
    done
}

now() { date +%s%N; }

# ---- the people -----------------------------------------------------------------------------------------------------

chat() { # HOST PERSON ARGUMENTS...
    local name=$1 person=$2
    shift 2
    XDG_STATE_HOME=$work/$person CHAT_PASSWORD='correct horse' on "$name" "$bin/chat" -s "$(everyone)" "$@"
}

# Sends one message after the other, and writes down when each was acknowledged.
talk() { # HOST PERSON
    local name=$1 person=$2 count=0
    while [[ ! -e $work/stop ]]; do
        count=$((count + 1))
        if chat "$name" "$person" --timeout 20s send carol "$person $count" >/dev/null 2>>"$work/$person.talk"; then
            now >>"$work/$person.sent"
        fi
    done
}

# The longest time without an acknowledgement on host a since a moment, in milliseconds.
gap_since() { # NANOSECONDS
    awk -v since="$1" -v now="$(now)" '$1 > since { print $1 } END { print now }' "$work/alice.sent" |
        awk -v since="$1" 'BEGIN { last = since } { if ($1 - last > most) most = $1 - last; last = $1 } END { printf "%d", most / 1e6 }'
}

alice_sent_since() { [[ $(awk -v since="$1" '$1 > since' "$work/alice.sent" | wc -l) -ge 3 ]]; }

# The probe writes, reads on every node and listens, from host a, until it is interrupted.
start_probe() {
    ip netns exec "$a" "$bin/chat-admin" -e "$(everyone)" probe --rate 20 --for 1h >"$work/probe.out" 2>"$work/probe.talk" &
    probe=$!
}

# ---- the demonstration --------------------------------------------------------------------------------------------------

results=()
failed=0
begun=$SECONDS

verdict() { # PASS|FAIL STEP FIGURE
    results+=("$(printf '%-4s  %-54s %s' "$1" "$2" "$3")")
    printf '%3d s  %s\n' "$((SECONDS - begun))" "${results[-1]}"
    if [[ $1 == FAIL ]]; then failed=1; fi
}

# Whether all nodes reach the same index within 30 s.
becomes_level() { # STEP
    local since
    since=$(now)
    if eventually 30 level; then
        verdict PASS "$1" "level after $((($(now) - since) / 1000000)) ms"
    else
        verdict FAIL "$1" "not level after 30 s"
    fi
}

# Whether the people on host a were served within so many milliseconds after a fault.
goes_on() { # STEP SINCE LIMIT
    local gap
    if eventually 30 alice_sent_since "$2" && sleep "$dwell" && gap=$(gap_since "$2") && ((gap <= $3)); then
        verdict PASS "$1" "longest wait ${gap} ms (limit $3)"
    else
        verdict FAIL "$1" "longest wait $(gap_since "$2") ms (limit $3)"
    fi
}

grow() {
    local name
    on a "$bin/chat-node" init --data-dir "$work/n1" --name n1 --listen "${address[n1]}" --zone a >>"$work/n1.log"
    run_node n1
    for name in n2 n3 n4 n5; do
        run_node "$name" --name "$name" --listen "${address[$name]}" --zone "${host[$name]}"
        eventually 10 admin a --timeout 20s add-node "$name" "${address[$name]}" --zone "${host[$name]}" >/dev/null || true
    done
    if admin a status | grep -q '^  survives any 2 nodes'; then
        verdict PASS "one node on host a grows to five on a and b" "3 + 2 voters, $((SECONDS - begun)) s"
    else
        verdict FAIL "one node on host a grows to five on a and b" "see status below"
        admin a status || true
        exit 8
    fi
}

start_talking() {
    local person
    for person in alice bob carol; do
        chat a "$person" register "$person" 2>>"$work/$person.talk"
        chat a "$person" login "$person" 2>>"$work/$person.talk"
    done
    talk a alice &
    talk b bob &
    start_probe
    eventually 20 test -s "$work/alice.sent"
}

kill_two() {
    local first second since
    first=$(leader) since=$(now)
    kill_node "$first"
    goes_on "the leader is killed ($first on host ${host[$first]})" "$since" 5000
    eventually 10 a_leader || true
    second=$(leader) since=$(now)
    kill_node "$second"
    goes_on "a second of five is killed ($second on host ${host[$second]})" "$since" 5000
    run_node "$first"
    run_node "$second"
    becomes_level "both are started again and catch up"
}

pull_the_cable() {
    local since code=0 began took
    # The harder case: the leader is on the side that will be cut off.
    admin a --timeout 10s transfer-leader n4 >/dev/null || true
    since=$(now)
    cable down
    goes_on "the cable is pulled, the leader beyond it: a goes on" "$since" 8000
    began=$(now)
    chat b carol --timeout 3s send alice "from beyond" >/dev/null 2>"$work/refusal" || code=$?
    took=$((($(now) - began) / 1000000))
    if ((code == 6 && took < 5000)) && admin b --timeout 2s status | grep -q 'NO QUORUM'; then
        verdict PASS "host b, cut off, refuses writes and says so" "exit 6 after $took ms, NO QUORUM"
    else
        verdict FAIL "host b, cut off, refuses writes and says so" "exit $code after $took ms"
    fi
    cable up
    becomes_level "the cable is plugged in again, b catches up"
}

replace_a_node() {
    local since code=0
    since=$(now)
    run_node n6 --name n6 --listen "${address[n6]}" --zone b
    eventually 15 admin a --timeout 20s add-node n6 "${address[n6]}" --zone b >/dev/null || true
    admin a --timeout 20s remove-node n5 >/dev/null || true
    wait "${pid[n5]}" || code=$?
    if ((code == 76)) && admin a status | grep -q '^5 voters, quorum 3'; then
        goes_on "n6 is added and n5 removed while all chat" "$since" 5000
    else
        verdict FAIL "n6 is added and n5 removed while all chat" "n5 ended with $code"
        admin a status || true
    fi
    unset 'address[n5]'
}

restart_host_b() {
    local since
    since=$(now)
    kill_node n4 n6
    goes_on "host b fails as a whole: a goes on" "$since" 5000
    run_node n4
    run_node n6
    becomes_level "host b is started again and catches up"
}

restart_host_a() {
    local since stopped code=0
    kill_node n1 n2 n3
    chat b carol --timeout 3s send alice "nobody hears" >/dev/null 2>&1 || code=$?
    if ((code == 6)); then
        verdict PASS "host a fails as a whole: b refuses writes" "exit 6: two of five are no quorum"
    else
        verdict FAIL "host a fails as a whole: b refuses writes" "exit $code"
    fi
    since=$(now)
    run_node n1
    run_node n2
    run_node n3
    goes_on "host a is started again: writes go on" "$since" 10000
}

# What the probe's ledger says of all that was acknowledged, read and told meanwhile.
settle() {
    local word metric figure code=0
    touch "$work/stop"
    kill -INT "$probe"
    wait "$probe" || code=$?
    # `PASS  recovery time  a pause of …`: the columns are two spaces apart.
    while IFS=$'\t' read -r word metric figure; do
        verdict "$word" "the probe's ledger: $metric" "$figure"
    done < <(sed -nE 's/^(PASS|FAIL)  ([^ ]+( [^ ]+)?)  +([^ ].*)$/\1\t\2\t\4/p' "$work/probe.out" | sed -E 's/  +/ /g')
    if ! grep -q '^PASS' "$work/probe.out" || ((code != 0)); then
        verdict FAIL "the probe ends well" "exit $code"
        cat "$work/probe.out" "$work/probe.talk"
    fi
    wait_for_people
    if eventually 20 level; then
        verdict PASS "all replicas hold the same state" "$(admin a verify | awk '/n1/ { print "digest " substr($NF, 1, 12) " at index " $2; exit }')"
    else
        verdict FAIL "all replicas hold the same state" "$(admin a verify 2>&1 | tail -1)"
    fi
}

wait_for_people() {
    local job
    for job in $(jobs -rp); do
        # The nodes stay; the people finish their sentence.
        [[ " ${pid[*]} " == *" $job "* ]] || wait "$job" || true
    done
}

set_up_hosts
echo "hosts: a 10.77.0.1, b 10.77.0.2; programs: $bin ($("$bin/chat-node" --version))"
grow
start_talking
kill_two
pull_the_cable
replace_a_node
restart_host_b
restart_host_a
settle

if ((failed)); then echo "FAIL: $(printf '%s\n' "${results[@]}" | grep -c ^FAIL) of ${#results[@]} steps"; else echo "PASS: ${#results[@]} steps, $((SECONDS - begun)) s, $(sed -n 's/^sent \(.*\), acknowledged \([0-9]*\),.*/\2 of \1 messages of the probe acknowledged/p' "$work/probe.out")"; fi
exit "$((failed ? 8 : 0))"
