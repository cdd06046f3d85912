# Needs bash 4.4, curl, tar, base64 and coreutils, and git where the source is a git repository. Everything is read
# before anything is done, nothing reads the standard input, and all that is made lies in one folder that goes away.

say() {
  printf '%s\n' "$*" >>"$dir/log.$number"
}

complain() {
  printf 'buildyard: %s\n' "$*" >&2
}

is_plain() {
  [[ $1 != *[!A-Za-z0-9._~+/=-]* ]]
}

# call OUT ARGUMENTS...: one short request; leaves the status in $code (000: no answer).
call() {
  local out=$1
  shift
  : >"$dir/call.code"
  curl -q -sS -K "$dir/curl" --connect-timeout 10 --max-time 20 -o "$out" -w '%{http_code}' "$@" \
    >"$dir/call.code" 2>"$dir/curl.err" &
  wait "$!"
  code=$(<"$dir/call.code")
  code=${code:-000}
}

# measure FILE: its bytes in $REPLY; 0 if a signal ended the program that counts them.
measure() {
  REPLY=$(stat -L -c %s -- "$1" 2>/dev/null)
  [[ $REPLY == +([0-9]) ]] || REPLY=0
}

# show: print what is new in the current log.
show() {
  local size
  measure "$dir/log.$number"
  size=$REPLY
  if ((size > shown)); then
    tail -c "+$((shown + 1))" "$dir/log.$number" | head -c "$((size - shown))"
    shown=$size
  fi
}

# pump: send what is new in the current log, and at times nothing, to keep the lease.
pump() {
  local size answer
  show
  measure "$dir/log.$number"
  size=$REPLY
  while ((offset < size)) || ((SECONDS - beaten >= 3)) || [[ -z $begun ]]; do
    tail -c "+$((offset + 1))" "$dir/log.$number" | head -c 524288 >"$dir/chunk"
    call "$dir/answer" -X POST -H 'Content-Type: application/octet-stream' --data-binary "@$dir/chunk" \
      "$server/api/runner/$step/logs?command=$number&offset=$offset"
    case $code in
      200)
        begun=1 beaten=$SECONDS
        measure "$dir/chunk"
        offset=$((offset + REPLY))
        answer=$(<"$dir/answer")
        if [[ $answer == *'"stop":true'* ]]; then
          stop=cancelled
        fi
        ;;
      413)
        stop=log offset=$size
        return
        ;;
      400 | 401 | 403 | 404 | 409 | 415)
        stop=lost
        complain "the server no longer takes this step's output: $(<"$dir/answer")"
        return
        ;;
      *) return ;;
    esac
    if [[ $stop == cancelled && -n $child ]]; then
      return
    fi
  done
}

# drain: send the rest of the current log, for a minute at most.
drain() {
  local until=$((SECONDS + 60))
  while ((SECONDS < until)) && [[ $stop != lost && $stop != log ]]; do
    pump
    measure "$dir/log.$number"
    if [[ -n $begun ]] && ((offset >= REPLY)); then
      return
    fi
    nap 1
  done
}

nap() {
  sleep "$1" &
  wait "$!"
}

# end_child: end what runs now with all that it started, gently at first.
end_child() {
  local tries
  if [[ -z $child ]]; then
    return
  fi
  kill -TERM -- "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null
  for tries in {1..50}; do
    kill -0 -- "-$child" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$child" 2>/dev/null || kill -KILL "$child" 2>/dev/null
  wait "$child" 2>/dev/null
  child=
}

# attend: wait for $child while its output is sent; leaves how it ended in $status.
attend() {
  local pause=0.02
  while kill -0 "$child" 2>/dev/null; do
    nap "$pause"
    case $pause in
      0.02) pause=0.05 ;;
      0.05) pause=0.1 ;;
      *) pause=0.4 ;;
    esac
    pump
    if [[ -n $stop ]]; then
      end_child
      status=143
      return
    fi
  done
  wait "$child"
  status=$?
  kill -KILL -- "-$child" 2>/dev/null
  child=
}

# job OUT PROGRAM...: run a program in the workspace, as the leader of a process group, its output added to OUT.
job() {
  local out=$1 left=$((limit - SECONDS))
  shift
  (cd "$work" && exec timeout -k 5 "$((left > 0 ? left : 1))" "$@") >>"$out" 2>&1 &
  child=$!
  attend
}

# transfer OUT ARGUMENTS...: a request that may take long; leaves the status in $code.
transfer() {
  local out=$1
  shift
  : >"$dir/job.code"
  job "$dir/job.code" curl -q -s -K "$dir/curl" --connect-timeout 10 -o "$out" -w '%{http_code}' "$@"
  code=$(<"$dir/job.code")
  code=${code:-000}
}

claim() {
  local key value
  call "$dir/claim" -X POST -H 'Content-Type: application/json' -H 'Accept: text/plain' \
    --data-binary "{\"token\":\"$held\"}" "$server/api/runner/$step/claim"
  if [[ $code != 200 ]]; then
    complain "the step cannot be run now (status $code): $(cat "$dir/claim" "$dir/curl.err" 2>/dev/null)"
    if [[ $code == 401 ]]; then
      complain "give a token: curl … | BUILDYARD_TOKEN=TOKEN bash"
    fi
    return 1
  fi
  while read -r key value; do
    case $key in
      token) token=$value ;;
      attempt) attempt=$value ;;
      source) source_kind=$value ;;
      inputs) has_inputs=$value ;;
      commit) commit=$value ;;
      shallow) shallow=$value ;;
      submodules) submodules=$value ;;
      repository) repository=$(base64 -d <<<"$value") ;;
      secret)
        secrets+=("${value%% *}=$(base64 -d <<<"${value#* }")")
        ;;
    esac
  done <"$dir/claim"
  printf 'header = "X-Buildyard-Step-Token: %s"\n' "$token" >>"$dir/curl"
}

# git_do ARGUMENTS...: git that runs nothing of the repository's and asks nobody; no credentials in the log.
git_do() {
  local text userinfo
  : >"$dir/git.out"
  export GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=true SSH_ASKPASS=true GIT_ALLOW_PROTOCOL=$protocols
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=$repository
  job "$dir/git.out" git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c http.followRedirects=false \
    -c submodule.recurse=false -c advice.detachedHead=false -c init.defaultBranch=main -c gc.auto=0 "$@"
  unset GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0
  text=$(tr -d '\000' <"$dir/git.out")
  userinfo=${repository#*://}
  userinfo=${userinfo%%/*}
  if [[ $userinfo == *@* && -n ${userinfo%@*} ]]; then
    text=${text//"${userinfo%@*}@"/***@}
  fi
  if [[ -n $text ]]; then
    say "$text"
  fi
  return "$status"
}

lay_git() {
  local target=FETCH_HEAD wanted=$commit
  local -a depth=()
  if [[ $shallow == true ]]; then
    depth=(--depth=1)
  fi
  git_do init -q . || return 1
  if [[ ${#commit} -eq 40 || ${#commit} -eq 64 ]]; then
    target=$commit
    git_do fetch -q "${depth[@]}" origin "$commit" || [[ -n $stop ]] || fetch_all || return 1
  elif [[ -n $commit ]]; then
    target=$commit
    fetch_all || return 1
  elif [[ $branch == refs/* ]]; then
    git_do fetch -q "${depth[@]}" origin "$branch" || return 1
  elif [[ -n $branch ]]; then
    git_do fetch -q "${depth[@]}" origin "refs/heads/$branch" || git_do fetch -q "${depth[@]}" origin "refs/tags/$branch" || return 1
  else
    git_do fetch -q "${depth[@]}" origin HEAD || return 1
  fi
  git_do checkout -q --detach "$target^{commit}" -- || return 1
  if [[ ${#wanted} -lt 40 ]]; then
    pin_commit || return 1
  fi
  if [[ $submodules == true && -f $work/.gitmodules ]]; then
    git_do submodule --quiet update --init --recursive || return 1
  fi
  git_do log -1 --format='commit %H %s'
}

# pin_commit: tell what the branch turned out to be, and go to what the first step of the build found.
pin_commit() {
  local found answer
  found=$(git -C "$work" rev-parse HEAD) || return 1
  call "$dir/answer" -X POST -H 'Content-Type: application/json' --data-binary "{\"commitHash\":\"$found\"}" \
    "$server/api/runner/$step/revision"
  if [[ $code != 200 ]]; then
    say "the server could not be told which commit was found (status $code)"
    return 1
  fi
  answer=$(<"$dir/answer")
  answer=${answer#*:\"}
  commit=${answer%%\"*}
  if [[ $commit != "$found" ]]; then
    git_do fetch -q "${depth[@]}" origin "$commit" || fetch_all || return 1
    git_do checkout -q --detach "$commit^{commit}" -- || return 1
  fi
}

fetch_all() {
  git_do fetch -q origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
}

# lay_archive WHAT PATH: unpack a tar file of the server into the workspace.
lay_archive() {
  transfer "$dir/archive.tar" "$server/api/runner/$step/$2"
  if [[ $code == 204 ]]; then
    return 2
  fi
  if [[ $code != 200 || $status -ne 0 ]]; then
    say "$1: the server answered $code"
    return 1
  fi
  job "$dir/log.$number" tar -xf "$dir/archive.tar" --no-same-owner
  rm -f "$dir/archive.tar"
  return "$status"
}

lay_source() {
  case $source_kind in
    git)
      command -v git >/dev/null || {
        say "git is not installed here"
        return 1
      }
      lay_git
      ;;
    archive) lay_archive source source && say "source: uploaded folder" ;;
  esac
}

lay_caches() {
  local i
  for i in "${!caches[@]}"; do
    lay_archive "cache ${caches[i]}" "caches?path=${cache_queries[i]}"
    case $? in
      0) say "cache ${caches[i]}: restored" ;;
      2) say "cache ${caches[i]}: nothing is stored yet" ;;
      *) say "cache ${caches[i]}: not restored" ;;
    esac
    if [[ -n $stop ]]; then
      return
    fi
  done
}

set_up() {
  say "runner $(uname -n 2>/dev/null), script of $server, attempt $attempt"
  if [[ -n $image ]]; then
    say "image $image is noted; this runner uses the tools of its own machine"
  fi
  lay_source || {
    stage=source
    return 1
  }
  if [[ $has_inputs == true ]]; then
    lay_archive inputs inputs || {
      stage=inputs
      return 1
    }
    say "inputs of earlier steps are in place"
  fi
  lay_caches
  [[ -z $stop ]]
}

# run_command N: one command of the step; its status is left in $status.
run_command() {
  local n=$1
  drain
  number=$((n + 1)) offset=0 shown=0 begun='' status=0
  : >"$dir/log.$number"
  base64 -d <<<"${scripts[n]}" >"$dir/run.sh"
  set_variables "$n"
  pump
  if [[ -z $stop ]]; then
    job "$dir/log.$number" env -u BUILDYARD_TOKEN -u BUILDYARD_STEP_TOKEN "${variables[@]}" "${secrets[@]}" \
      "${shell[@]}" "$dir/run.sh"
  fi
  if [[ $status -eq 124 ]]; then
    stage=timeout
  fi
}

# address TEXT: percent-encoded, for a path in a URL.
address() {
  local LC_ALL=C text=$1 out='' i letter value
  for ((i = 0; i < ${#text}; i++)); do
    letter=${text:i:1}
    case $letter in
      [A-Za-z0-9._~/-]) ;;
      *)
        printf -v value '%d' "'$letter"
        printf -v letter '%%%02X' "$((value & 255))"
        ;;
    esac
    out+=$letter
  done
  printf '%s' "$out"
}

# keep_file PATH: store one output.
keep_file() {
  local path=$1 real mode tries url
  if [[ -n ${seen[$path]:-} ]]; then
    return 0
  fi
  seen[$path]=1
  if [[ -L $path ]]; then
    real=$(realpath -- "$path" 2>/dev/null)
    if [[ ! -f $path || $real != "$(realpath -- "$work")"/* ]]; then
      say "outputs: not kept: $path leads elsewhere"
      return 0
    fi
  elif [[ ! -f $path ]]; then
    return 0
  fi
  mode=$(stat -L -c %a -- "$path")
  url="$server/api/runner/$step/artifacts/$(address "$path")?mode=${mode: -3}"
  for tries in 1 2 3; do
    measure "$path"
    if ((REPLY < 1048576)); then
      call "$dir/receipt" -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$work/$path" "$url"
      ((SECONDS - beaten < 3)) || pump
    else
      transfer "$dir/receipt" -H 'Content-Type: application/octet-stream' -T "$work/$path" "$url"
    fi
    if [[ $code == 200 ]]; then
      note_receipt artifacts
      kept=$((kept + 1))
      return 0
    fi
    if [[ $code == 4* || -n $stop ]]; then
      break
    fi
    nap 1
  done
  say "outputs: $path could not be stored (status $code): $(cat "$dir/receipt" 2>/dev/null)"
  stage=storage
  return 1
}

# note_receipt LIST: what the server answered goes into the report as it is.
note_receipt() {
  if [[ -s $dir/$1 ]]; then
    printf ',' >>"$dir/$1"
  fi
  cat "$dir/receipt" >>"$dir/$1"
}

# keep_matching PATTERN PATH...: store all that a pattern takes.
keep_matching() {
  local pattern=$1 path inner any=
  shift
  for path in "$@"; do
    path=${path%/}
    if [[ $pattern != *.git* && /$path/ == */.git/* ]] || [[ ! -e $path && ! -L $path ]]; then
      continue
    fi
    any=1
    if [[ -d $path && ! -L $path ]]; then
      for inner in "$path"/**; do
        keep_file "$inner" || return 1
      done
    else
      keep_file "$path" || return 1
    fi
  done
  if [[ -z $any ]]; then
    say "outputs: nothing matches $pattern"
    missing=1
  fi
}

keep_outputs() {
  cd "$work" || return 1
  shopt -s nullglob dotglob globstar
  keep_all
  local failed=$?
  shopt -u nullglob dotglob globstar
  cd "$dir" || return 1
  if [[ -n $missing && -z $stage ]]; then
    stage=outputs
  fi
  if [[ $kept -gt 0 ]]; then
    say "outputs: $kept files stored"
  fi
  [[ $failed -eq 0 && -z $stage ]]
}

save_caches() {
  local i path
  for i in "${!caches[@]}"; do
    path=${caches[i]}
    rm -f "$dir/cache.tar"
    if [[ ! -e $work/$path ]]; then
      say "cache $path: not saved: it is not there"
      continue
    fi
    job "$dir/log.$number" tar -cf "$dir/cache.tar" --hard-dereference --owner=0 --group=0 --numeric-owner -- "$path"
    if [[ $status -eq 0 ]]; then
      transfer "$dir/receipt" -H 'Content-Type: application/octet-stream' -T "$dir/cache.tar" \
        "$server/api/runner/$step/caches?path=${cache_queries[i]}"
      if [[ $code == 200 ]]; then
        note_receipt caches
        say "cache $path: saved"
        continue
      fi
    fi
    say "cache $path: not saved (status $code)"
  done
}

# report WORD STATUS: tell how the step ended, until the server has heard it.
report() {
  local tries
  drain
  if [[ $stop == lost ]]; then
    complain "the step is no longer held by this runner; nothing is reported"
    reported=1
    return 1
  fi
  {
    printf '{"status":"%s","token":"%s","exitStatus":%d,"stage":"%s","artifacts":[' "$1" "$token" "$2" "${stage:-run}"
    cat "$dir/artifacts"
    printf '],"caches":['
    cat "$dir/caches"
    printf ']}'
  } >"$dir/report"
  for tries in {1..20}; do
    call "$dir/answer" -X POST -H 'Content-Type: application/json' --data-binary "@$dir/report" \
      "$server/api/runner/$step/complete"
    case $code in
      200)
        reported=1
        return 0
        ;;
      4*)
        reported=1
        complain "the report was refused (status $code): $(<"$dir/answer")"
        return 1
        ;;
    esac
    nap 1
  done
  complain "the server could not be told how the step ended (status $code)"
  return 1
}

interrupted() {
  trap '' INT TERM HUP
  end_child
  if [[ -n $token && -z $reported ]]; then
    stage=interrupted stop=
    say "interrupted by signal $1"
    report failed "$2"
  fi
  exit "$2"
}

leave() {
  local last=$?
  trap '' INT TERM HUP
  end_child
  if [[ -n $token && -z $reported ]]; then
    report failed "$((last ? last : 1))"
  fi
  rm -rf -- "$dir"
}

main() {
  local program mask n account=${BUILDYARD_TOKEN:-}
  for program in curl tar base64 timeout mktemp stat head tail realpath; do
    command -v "$program" >/dev/null || {
      complain "$program is not installed here"
      return 1
    }
  done
  if ! is_plain "$account" || ! is_plain "$held"; then
    complain "BUILDYARD_TOKEN or BUILDYARD_STEP_TOKEN is no token"
    return 1
  fi
  mask=$(umask)
  umask 077
  dir=$(mktemp -d "${TMPDIR:-/tmp}/buildyard.XXXXXXXX") || return 1
  work=$dir/work
  trap leave EXIT
  trap 'interrupted INT 130' INT
  trap 'interrupted TERM 143' TERM
  trap 'interrupted HUP 129' HUP
  : >"$dir/curl"
  : >"$dir/artifacts"
  : >"$dir/caches"
  : >"$dir/log.0"
  if [[ -n $account ]]; then
    printf 'header = "Authorization: Bearer %s"\n' "$account" >>"$dir/curl"
  fi
  claim || return 1
  umask "$mask"
  mkdir -- "$work" || return 1
  if set_up; then
    for n in "${!scripts[@]}"; do
      run_command "$n"
      if [[ $status -ne 0 || -n $stop ]]; then
        break
      fi
    done
    if [[ $status -eq 0 && -z $stop ]]; then
      keep_outputs && save_caches
    fi
  else
    status=1
  fi
  if [[ $stop == log ]]; then
    stage=log
  fi
  if [[ -n $stage || -n $stop ]] && [[ $status -eq 0 ]]; then
    report failed 0
    status=1
  elif [[ $status -eq 0 ]]; then
    report success 0 || status=1
  else
    report failed "$status"
  fi
  return "$status"
}

held=${BUILDYARD_STEP_TOKEN:-}
number=0 offset=0 shown=0 begun='' beaten=0 status=0 code=000 child='' stop='' stage='' reported='' kept=0
shallow=true submodules=true token='' attempt='' source_kind=none has_inputs=false repository='' missing='' work='' dir=''
secrets=() variables=() shell=()
declare -A seen=()
main </dev/null
exit "$?"
