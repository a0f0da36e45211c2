#!/usr/bin/env bash
# Runs a command against a container engine of its own, with stand-ins for the images it cannot pull:
#
#   tests/deploy/engine.sh STATE_DIR COMMAND...
#
# The engine lives in its own process and mount namespaces, so that nothing of it outlives this script;
# firewall rules, bridges, control groups and STATE_DIR are put back as they were.
#
# Exit status: that of COMMAND; 75 where this machine cannot run an engine, after a line that says why.
set -euo pipefail
UNAVAILABLE=75
here=$(cd "$(dirname "$0")/../.." && pwd)

started=$SECONDS
say() { echo "-- engine, $((SECONDS - started)) s: $*"; }
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
state=$(realpath -m "$1"); shift
unavailable() { echo "no container engine here: $*" >&2; exit $UNAVAILABLE; }

[ "$(id -u)" = 0 ] || unavailable "starting one takes root"
command -v apt-get >/dev/null || unavailable "its packages come from apt-get"
[ ! -e "$state" ] || unavailable "$state is there already"
free_kb=$(df -Pk "$(dirname "$state")" 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
[ "${free_kb:-0}" -ge $((30 * 1024 * 1024)) ] || unavailable "images need 30 GB beside $state"

export DEBIAN_FRONTEND=noninteractive
packages() { timeout 300 apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1; }
log=$(mktemp)
needed=(docker.io docker-compose iptables iproute2 mmdebstrap util-linux)
# The lists of a machine may be old, or empty.
packages "${needed[@]}" || { timeout 120 apt-get update -qq >"$log" 2>&1 && packages "${needed[@]}"; } \
    || { cat "$log" >&2; unavailable "apt-get cannot install ${needed[*]}"; }
rm -f "$log"

# Debian's own programs: a docker that comes first on somebody's PATH may lack a builder.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin:$PATH
export DOCKER_HOST=unix://$state/docker.sock DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
mkdir -p "$state"
chmod 700 "$state"
iptables-save >"$state/rules" 2>/dev/null || : >"$state/rules"
bridges() { ip -brief link show type bridge | cut -d' ' -f1 | sort; }
bridges >"$state/bridges"
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)

restore() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP  # whoever is in a hurry would leave half of it behind
    set +e
    if [ -S "$state/docker.sock" ] && docker info >/dev/null 2>&1; then
        docker ps -aq | xargs -r docker rm -f >/dev/null
        docker network ls -q --filter type=custom | xargs -r docker network rm >/dev/null
    fi
    # The first process of the namespace: whatever is in it ends with it.
    if [ -n "${namespace:-}" ]; then
        pkill -TERM -P "$namespace" 2>/dev/null
        for _ in $(seq 40); do kill -0 "$namespace" 2>/dev/null || break; sleep 0.25; done
        kill -KILL "$namespace" 2>/dev/null
        wait "$namespace" 2>/dev/null
    fi
    for table in filter nat; do
        iptables -t $table -F && iptables -t $table -X
    done 2>/dev/null
    for chain in INPUT FORWARD OUTPUT; do iptables -P $chain ACCEPT; done 2>/dev/null
    iptables-restore <"$state/rules" 2>/dev/null
    bridges | comm -13 "$state/bridges" - | while read -r bridge; do ip link del "$bridge"; done
    echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
    find /sys/fs/cgroup -depth -type d \( -name docker -o -path '*/docker/*' \) -exec rmdir {} + 2>/dev/null
    rm -rf "$state"
    say "removed"
    exit $status
}
trap restore EXIT
trap 'exit 130' INT TERM HUP

# A shell in front, since the first process of a namespace inherits, and must bury, all orphans.
unshare --mount --pid --fork --kill-child --mount-proc \
    bash -c 'dockerd "$@" & engine=$!; trap "kill $engine" TERM; wait $engine; wait $engine' - \
    --data-root "$state/data" --exec-root "$state/run" --pidfile "$state/dockerd.pid" \
    --host "$DOCKER_HOST" --storage-driver overlay2 >"$state/dockerd.log" 2>&1 </dev/null &
namespace=$!
for _ in $(seq 120); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$namespace" 2>/dev/null || break
    sleep 0.5
done
docker info >/dev/null 2>&1 || { tail -n 5 "$state/dockerd.log" >&2; unavailable "dockerd does not start"; }

say "runs; making stand-ins for images"
timeout 600 "$here/tests/deploy/stand_ins.sh" "$state" || {
    status=$?
    [ $status != $UNAVAILABLE ] || unavailable "packages cannot be fetched from inside a container"
    [ $status != 124 ] || unavailable "stand-ins for images take longer than ten minutes"
    exit $status
}
say "ready"
"$@"
