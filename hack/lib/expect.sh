# shellcheck shell=bash
# How a story is told and checked: commands are shown before they run, and each check says what it found.
# The first thing that is not as it must be ends the story.

heading() {
  if [[ -t 1 ]]; then printf '\n\033[1m── %s\033[0m\n' "$*"; else printf '\n── %s\n' "$*"; fi
}

tell() { printf '%s\n' "$*"; }

# The command is shown as a person would type it, so passwords stay names of variables.
run() { # COMMAND
  printf '\n$ %s\n' "$1"
  eval "$1"
}

expect() { # WHAT ACTUAL EXPECTED
  [[ $2 == "$3" ]] || die "NOT AS IT MUST BE: $1 is \"$2\", must be \"$3\""
  checked "$1 is ${3:-empty}"
}

expect_more_than() { # WHAT ACTUAL LEAST
  if ! [[ $2 =~ ^[0-9]+$ && $2 -gt $3 ]]; then die "NOT AS IT MUST BE: $1 is \"$2\", must be more than $3"; fi
  checked "$1 is $2, more than $3"
}

expect_text() { # WHAT ACTUAL PART
  [[ $2 == *"$3"* ]] || die "NOT AS IT MUST BE: $1 is \"$2\", must have \"$3\" in it"
  checked "$1 says: $3"
}

checked() {
  CHECKS=$((CHECKS + 1))
  printf '  ✓ %s\n' "$*"
}

field() { # FILE JSONPATH
  kubectl get -n "$NAMESPACE" -f "$1" -o "jsonpath={$2}"
}

rest() { # PATH
  curl_local --fail-with-body --show-error -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL$1"
}

sql() { psql "$DATABASE_URL" --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 -c "$1"; }
