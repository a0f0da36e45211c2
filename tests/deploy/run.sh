#!/usr/bin/env bash
# make test-deploy: builds both images, starts the whole stack, breaks it in parts, and looks at it from
# outside.
#
# An engine that answers to `docker info` is used; where there is none, tests/deploy/engine.sh starts one.
# Builds and tests may take LIMIT_S (900 s) together; starting and removing an engine are bounded apart.
# Exit status: 75 where there can be none, after a line that says why; otherwise that of the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
LIMIT_S=${LIMIT_S:-900}
PYTHON=$(realpath "$(dirname "${PYTHON:-.venv/bin/python}")")/python

if [ "${1:-}" != --in-engine ]; then
    bounded=(timeout --kill-after=30 "$LIMIT_S" "$0" --in-engine)
    if docker info >/dev/null 2>&1; then
        exec "${bounded[@]}"
    fi
    state=$(mktemp --dry-run --directory "${ENGINE_ROOT:-/var/tmp}/intaglio-engine.XXXXXX")
    exec tests/deploy/engine.sh "$state" "${bounded[@]}"
fi

# The tests clear up behind them; this is for those that were killed.
leave_nothing() {
    local ours=label=com.docker.compose.project=intaglio-test
    docker ps -aq --filter "$ours" | xargs -r docker rm --force --volumes >/dev/null
    docker volume ls -q --filter "$ours" | xargs -r docker volume rm --force >/dev/null
    docker network ls -q --filter "$ours" | xargs -r docker network rm >/dev/null
}
trap 'rm -rf "${logs:-}"; leave_nothing' EXIT

started=$SECONDS
say() { echo "-- $((SECONDS - started)) s: $*"; }
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1 INTAGLIO_TAG=test
logs=$(mktemp -d)
build() { # TARGET: what it printed is shown where it failed, else which steps took long
    docker build --progress=plain --file docker/Dockerfile --target "$1" --tag "intaglio-$1:test" . \
        >"$logs/$1" 2>&1 || { tail -n 60 "$logs/$1"; return 1; }
    awk -v target="$1" '$2 ~ /^\[/ { step[$1] = $0 }
        $2 == "DONE" && $3 + 0 >= 5 { print "   " target ":", $3, substr(step[$1], 1, 100) }' "$logs/$1"
}
say "building the server"
build server
say "building the attacker"
build attack
say "starting the stack"
INTAGLIO_TEST_STACK=1 "$PYTHON" -m pytest tests/deploy -p no:cacheprovider -p no:xdist --timeout=400 \
    --maxfail=3 --durations=8 --no-cov
say "done"
