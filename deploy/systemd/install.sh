#!/usr/bin/env bash
# Install the agent and its systemd units on this machine, or a newer version over an older one; nothing is started or restarted.
#   install.sh                      this checkout, with its locked requirements from the package index
#   install.sh --wheels DIR FILE    without a network: the wheel FILE, and the requirements from wheels in DIR
#   install.sh --check [NAME]       look at /etc/trailseal/trailseal.yaml, or NAME.yaml, as the service sees it
# PYTHON names the interpreter (default python3, 3.11 or newer). It may be run again at any time, and changes only what differs.
#
# Each version has its own environment, /opt/trailseal-VERSION-HASH, and /opt/trailseal is a link to the one in use: an agent that runs
# loads what it needs from the one it was started from, and going back is setting the link back.
set -euo pipefail
umask 022
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
checkout=$(realpath "$here/../..")
python=${PYTHON:-python3}
readonly link=/opt/trailseal configuration=/etc/trailseal units=/etc/systemd/system

say() { printf 'install.sh: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# Run `trailseal check` with the user, the groups, the folders and the credentials that the unit has.
check() {
  local state=trailseal file=$configuration/trailseal.yaml
  [ -z "${1:-}" ] || { state=trailseal@$1; file=$configuration/$1.yaml; }
  systemd-run --quiet --pipe --wait --collect \
    --property=User=trailseal --property=Group=trailseal --property=SupplementaryGroups="adm systemd-journal" \
    --property=StateDirectory="$state" --property=StateDirectoryMode=0700 --property=UMask=0077 \
    --property=ProtectSystem=strict --property=ReadWritePaths=-/srv/trail --property=ProtectHome=yes --property=PrivateTmp=yes \
    --property=LoadCredential=credential:$configuration/credentials/ \
    "$link/bin/trailseal" check --config "$file"
}

wheels="" source=$checkout only_check="" name=""
while [ "$#" -gt 0 ]; do
  case $1 in
    --wheels) [ -d "${2:-}" ] || fail "--wheels needs a folder"; wheels=$(realpath "$2"); shift ;;
    --check) only_check=yes; name=${2:-}; [ "$#" -lt 2 ] || shift ;;
    --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) fail "there is no option $1; --help shows them" ;;
    *) [ -e "$1" ] || fail "there is no $1"; source=$(realpath "$1") ;;
  esac
  shift
done

[ "$(id -u)" -eq 0 ] || fail "run it as root"
[ -d /run/systemd/system ] || fail "systemd does not run here"
if [ -n "$only_check" ]; then check "$name"; exit; fi
version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
[ "$version" -ge 250 ] || fail "systemd $version is too old: 250 is the first that hands over a folder of credentials"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is $("$python" -V), and Python 3.11 or newer is needed"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python lacks the modules venv and ensurepip (Debian: apt install python3-venv)"
[ -L "$link" ] || [ ! -e "$link" ] || fail "$link was not made by this script; move it away first"

# ---- the program
hashed() { if [ -f "$source" ]; then cat "$source"; else (cd "$source" && find agent pyproject.toml -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 cat); fi; }
number=$("$python" -c 'import sys; v = sys.argv[1].split("-"); print(v[1] if len(v) > 2 else "checkout")' "$(basename "$source")")
[ -f "$source" ] || number=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/pyproject.toml" | head -n 1)
hash=$({ hashed; cat "$checkout/requirements/runtime.txt"; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum | cut -c1-12)
release=$link-$number-$hash
if [ -e "$release/.complete" ]; then
  say "$release is there already"
else
  say "making $release"
  rm -rf "$release"
  "$python" -m venv "$release"
  offline=()
  [ -z "$wheels" ] || offline=(--no-index --find-links "$wheels")
  pip=("$release/bin/python" -m pip --quiet --disable-pip-version-check install)
  "${pip[@]}" "${offline[@]}" --require-hashes --requirement "$checkout/requirements/runtime.txt"
  "${pip[@]}" --no-deps "$source"
  "$release/bin/trailseal" version >/dev/null
  touch "$release/.complete"
fi
before=$(readlink "$link" || true)
if [ "$before" != "$release" ]; then
  ln -s "$release" "$link.new"
  mv -T "$link.new" "$link"
  [ -z "$before" ] || say "the version before is still in $before"
fi

# ---- the user, the folders, the units
put() { cmp --silent "$1" "$2" || { install -D --mode=644 "$1" "$2"; say "wrote $2"; changed=yes; }; }
changed=""
put "$here/trailseal.sysusers.conf" /etc/sysusers.d/trailseal.conf
systemd-sysusers /etc/sysusers.d/trailseal.conf
install --directory --mode=755 "$configuration"
install --directory --mode=700 "$configuration/credentials"
[ -e "$configuration/trailseal.yaml" ] || put "$here/trailseal.yaml" "$configuration/trailseal.yaml"
for unit in trailseal.service trailseal@.service; do put "$here/$unit" "$units/$unit"; done
[ -z "$changed" ] || systemctl daemon-reload

# ---- the configuration
say "checking $configuration/trailseal.yaml"
if check; then
  say "ready: systemctl enable --now trailseal"
else
  say "the configuration is not fit yet; edit it, and look again with: $here/install.sh --check"
fi
if systemctl --quiet is-active trailseal.service 'trailseal@*.service' && { [ -n "$changed" ] || [ "$before" != "$release" ]; }; then
  say "the agent runs on as it was started; for the new one: systemctl try-restart trailseal.service 'trailseal@*.service'"
fi
