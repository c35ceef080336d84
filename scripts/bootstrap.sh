#!/usr/bin/env bash
# Everything that Fulcrum needs on a bare Debian 12, once: system packages, .venv from the lock file, the project.
# A second run finds its stamps and does nothing. Kafka and the registry are fetched by the first `stack up`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%-10s %s\n' "$1" "$2"; }
fail() { say error "$1" >&2; exit 1; }

# --- system packages ---------------------------------------------------------------------------------------

missing=()
need() { # need PACKAGE TEST...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

need postgresql has_postgres
need rabbitmq-server test -x /usr/lib/rabbitmq/bin/rabbitmq-server
need redis-server command -v redis-server
need maven command -v mvn
need ca-certificates test -d /etc/ssl/certs
need procps command -v ps

python=${PYTHON:-python3}
command -v "$python" >/dev/null || missing+=(python3)
"$python" -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || fail "install these by hand, there is no apt-get: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || fail "root or sudo is needed to install: ${missing[*]}"
    say packages "installing ${missing[*]}"
    log=$(mktemp)
    # The packages would start servers of their own; the local stack neither needs nor touches those.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        trap 'as_root rm -f "$policy"' EXIT
    fi
    install() {
        # Another checkout may be updating the lists right now; if they stay old, the installation says so.
        as_root apt-get update -qq || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            -o DPkg::Lock::Timeout=600 "${missing[@]}"
    }
    install >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "apt-get failed; the whole log: $log"; }
    rm -f "$log"
fi

# --- the virtual environment -------------------------------------------------------------------------------

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, $python is $("$python" -V); PYTHON names another"

stamp=.venv/.installed
wanted=$(cat requirements.lock setup.cfg pyproject.toml | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    [ -x .venv/bin/python ] || { say python "making .venv"; "$python" -m venv .venv; }
    say python "installing requirements.lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
    printf '%s' "$wanted" >"$stamp"
fi
