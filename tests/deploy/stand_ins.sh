#!/usr/bin/env bash
# Images by the names that docker/Dockerfile and the compose files pull, made of Debian packages where
# they cannot be pulled: the same programs in other versions, laid out as the real ones are.
set -euo pipefail
state=$1
here=$(cd "$(dirname "$0")/../.." && pwd)

python=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$here/docker/Dockerfile")
pulled() { sed -n "s|^ *image: *\($1:[^ ]*\) *$|\1|p" "$here"/docker-compose.yml "$here"/compose.*.yaml | sort -u; }

root=$state/rootfs
mmdebstrap --quiet --variant=apt --include=ca-certificates,python3,python3-venv,python3-pip,wget \
    bookworm "$root" || exit 75
ln -sf /usr/bin/python3 "$root/usr/local/bin/python"
rm -f "$root/usr/lib/python3.11/EXTERNALLY-MANAGED"
# What this machine trusts, an image built on it must trust too.
if compgen -G "/usr/local/share/ca-certificates/*.crt" >/dev/null; then
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
fi
# Nor is there anybody to whom a cache of downloads would be of use: the engine is thrown away.
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ntimeout = 180\nno-cache-dir = true\n' >"$root/etc/pip.conf"
tar -C "$root" -c . | docker import --change 'CMD ["python3"]' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$python" >/dev/null
rm -rf "$root"
# Builds fetch packages; whether they can is a matter of this machine, and anything after that is ours.
docker run --rm "$python" sh -c 'apt-get update -qq && pip download --quiet --no-deps --dest /tmp click' \
    >/dev/null 2>"$state/probe.log" || { tail -n 3 "$state/probe.log" >&2; exit 75; }

stand_in() { # NAME PACKAGE INSTRUCTION...
    local image package=$2
    image=$(pulled "$1")
    [ -n "$image" ] || return 0
    shift 2
    { printf 'FROM %s\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends %s\n' \
        "$python" "$package"; printf '%s\n' "$@"; } | docker build --quiet --tag "$image" - >/dev/null
}
# All at once: they wait for the archive most of the time.
stand_in redis redis-server \
    'RUN usermod -u 999 redis && groupmod -g 999 redis && mkdir -p /data && chown 999:999 /data' \
    'WORKDIR /data' 'CMD ["redis-server"]' & made=($!)
stand_in prom/prometheus prometheus \
    'RUN mkdir -p /prometheus && chown 65534:65534 /prometheus' \
    'USER 65534' 'ENTRYPOINT ["/bin/prometheus"]' & made+=($!)
stand_in prom/alertmanager prometheus-alertmanager \
    'RUN ln -s prometheus-alertmanager /usr/bin/alertmanager && mkdir -p /alertmanager && chown 65534:65534 /alertmanager' \
    'USER 65534' 'ENTRYPOINT ["/bin/alertmanager"]' & made+=($!)
stand_in haproxy haproxy 'RUN usermod -u 99 haproxy && groupmod -g 99 haproxy' 'USER 99' \
    'CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]' & made+=($!)
for one in "${made[@]}"; do wait "$one"; done
