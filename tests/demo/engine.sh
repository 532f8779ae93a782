# shellcheck shell=bash
# Sourced by the demo: what becomes of mail that does not simply go to the provider. Each scene waits for what it says, and fails
# if that does not come; what it has seen goes into `seen`, which the demo's last line tells.

# namespace, relay and files are the demo's.
# shellcheck disable=SC2154
seen=()

show_engine() {
  provide_plugin
  show_hold
  show_exchanger
  show_report
}

postroad() {
  step "$(as_typed kubectl postroad "$@" -n "$namespace")"
  in_cluster kubectl postroad "$@" -n "$namespace"
}

# Until every replica works by what was asked for.
settle() {
  kubectl -n "$namespace" wait --for=condition=Progressing=False "smtprelay/$relay" --timeout=60s >/dev/null ||
    die "the replicas did not take up the change"
}

show_hold() {
  local subject="Postroad demo, held"
  echo
  postroad hold "$relay" --recipient example.net
  settle
  step "sending a mail to customer@example.net"
  hand_in 587 "$subject" "Held, then released." --tls --to customer@example.net
  wait_for 60 "the status to count the mail that is held" holds_one || die "the mail is not held"
  postroad queue "$relay"
  find_mail "$subject" >/dev/null && die "the mail that is held was delivered"
  postroad release "$relay"
  await_mail "$subject"
  step "it went out when it was released"
  excerpt "$mail"
  seen+=("1 held and released")
}

holds_one() {
  (($(kubectl -n "$namespace" get smtprelay "$relay" -o 'jsonpath={.status.queue.held}') >= 1))
}

# Only the local cluster's DNS has a domain whose mail exchanger is this machine.
show_exchanger() {
  [[ $CLUSTER == local ]] || return 0
  local subject="Postroad demo, straight" pods patch
  pods=$(pods)
  echo
  step "a route for one domain: straight to the mail exchanger that the DNS names"
  patch="spec: {delivery: {direct: {allowedNetworks: [$PROVIDER_HOST/32]}, routes: [{name: straight, match: {recipients: [example.test]}, to: {direct: true}}]}}"
  echo "    $patch"
  echo "$patch" | kubectl -n "$namespace" patch smtprelay "$relay" --type=merge --patch-file=/dev/stdin
  settle
  [[ $(pods) == "$pods" ]] || die "pods were replaced for a route: $pods before, $(pods) now"
  step "the replicas took it up, no pod was replaced; sending a mail to customer@example.test"
  hand_in 587 "$subject" "To the mail exchanger, without the provider." --tls --to customer@example.test
  await_mail "$subject"
  # The first Received line is that of whoever took the mail last.
  grep -m 1 '^[[:space:]]by ' "$mail" | grep -q 'by mx\.example\.test ' || die "the mail took another way: $(<"$mail")"
  step "mx.example.test took it, which the MX record of example.test names"
  excerpt "$mail"
  seen+=("1 straight to its MX")
}

show_report() {
  echo
  step "sending a mail to reject@example.org, whom the provider refuses; the sender is told"
  hand_in 587 "Postroad demo, refused" "For nobody." --tls --to reject@example.org
  await_mail "Your message could not be delivered"
  grep -q '^Final-Recipient: rfc822; reject@example.org' "$mail" || die "the report is about something else: $(<"$mail")"
  step "the sender got this report"
  report "$mail"
  seen+=("1 refused and reported")
}

pods() { kubectl -n "$namespace" get pods --selector "postroad.dev/relay=$relay" -o 'jsonpath={.items[*].metadata.uid}'; }

# --- the mailbox --------------------------------------------------------------------------------------

find_mail() { # SUBJECT: its path
  local file
  while read -r file; do
    if outside grep -qxF "Subject: $1" "$file"; then
      echo "$file"
      return
    fi
  done < <(provider mailbox)
  return 1
}

# Sets mail: a copy that can be read here, wherever the mailbox is.
await_mail() { # SUBJECT
  wait_for 60 "the mail '$1' at the provider" find_mail "$1" ||
    die "it did not arrive; what waits, and why: $(in_cluster kubectl postroad queue "$relay" -n "$namespace")"
  mail=$files/mail
  outside cat "$(find_mail "$1")" >"$mail"
}

# What of a mail tells which way it went: headers in the order in which they stand there.
excerpt() { sed -n '/^$/q; /^Delivered-To:/p; /^[[:space:]]by /p; /^Subject:/p' "$1" | sed 's/^[[:space:]]*/    /'; }

# The headers that a mail program shows, and the part for people.
report() {
  sed -n '/^$/q; /^From:/p; /^To:/p; /^Subject:/p' "$1" | sed 's/^/    /'
  # What is substituted has no empty lines at its end.
  printf '\n%s\n' "$(sed -n '/^This is about/,/^The third part/{/^The third part/!s/^/    /p}' "$1" | sed 's/ *$//')"
}
