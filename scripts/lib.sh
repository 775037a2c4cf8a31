# shellcheck shell=bash
# What the scripts share; to be sourced.

# Ends a step that cannot run on this machine.
skip() {
    echo "skipped: $*"
    exit 77
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        echo "neither root nor sudo: cannot run $*" >&2
        return 1
    fi
}

# Refreshes the package lists, once a day.
apt_update() {
    local stamp=${CARGO_TARGET_DIR:-target}/checks/apt-updated
    command -v apt-get >/dev/null || return 1
    [[ -z $(find "$stamp" -mmin -1440 2>/dev/null) ]] || return 0
    as_root apt-get update -q || return 1
    mkdir -p "${stamp%/*}"
    touch "$stamp"
}

# need_apt PACKAGE...: installs those that are missing.
need_apt() {
    local package missing=()
    command -v dpkg-query >/dev/null || skip "needs $* and this is no Debian"
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' ||
            missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    apt_update || skip "needs ${missing[*]} and the package lists cannot be had"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q --yes --no-install-recommends "${missing[@]}" ||
        skip "needs ${missing[*]} and they cannot be installed"
}

# need_command COMMAND PACKAGE...: installs the packages if there is no such command.
need_command() {
    command -v "$1" >/dev/null && return
    [[ -n $2 ]] || { echo "there is no $1" >&2; exit 1; }
    need_apt "${@:2}"
}
