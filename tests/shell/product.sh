# shellcheck shell=bash
# Sourced after steps.sh: puts the product on a cluster. Used by the demo and by the cluster tests.
#
#   CLUSTER       local (made here), kind, or current (whatever kubectl talks to)
#   IMAGE         name and tag; for `current` it must be set, and pullable there
#   MADE_BY       who asks: what it makes in the cluster is marked with this, and only that is removed
#   PROVIDER_HOST the address at which pods reach a server outside the cluster; see provider_host
#   in_cluster    CMD...: run a command that reaches the cluster's API and the addresses of its nodes
#   as_typed      CMD...: the same as a line to type

tools=$PWD/tests/localcluster
system=postroad-system

choose_cluster() {
  if [[ -n ${DEMO_CLUSTER:-} ]]; then
    CLUSTER=$DEMO_CLUSTER
  elif [[ $(uname -s) == Linux && $EUID == 0 ]]; then
    CLUSTER=local
  elif command -v kind >/dev/null && docker_runs; then
    CLUSTER=kind
  else
    die "no cluster: run as root on Linux, or install kind and Docker, or set DEMO_CLUSTER=current for the cluster that kubectl talks to"
  fi
  case $CLUSTER in
    local) ;;
    kind)
      command -v kind >/dev/null || die "please install kind: https://kind.sigs.k8s.io"
      docker_runs || die "kind needs Docker, and 'docker info' fails"
      export KUBECONFIG=$PWD/target/kind/kubeconfig # the user's own current context stays what it is
      clients
      ;;
    current) clients ;;
    *) die "no cluster '$CLUSTER': local, kind or current" ;;
  esac
}

clients() {
  command -v kubectl >/dev/null || die "please install kubectl: https://kubernetes.io/docs/tasks/tools/"
  command -v helm >/dev/null || { "$tools/build" helm && PATH=$PATH:$tools/bin; }
}

in_cluster() {
  case $CLUSTER in
    local) "$tools/cluster" run "$@" ;;
    *) command "$@" ;; # not a function of that name, which may end here again
  esac
}

# How a command of in_cluster is typed in the project's folder.
as_typed() { # CMD...
  case $CLUSTER in
    local) echo "${tools#"$PWD"/}/cluster run $*" ;;
    kind) echo "KUBECONFIG=${KUBECONFIG#"$PWD"/} $*" ;;
    current) echo "$*" ;;
  esac
}

cluster_exists() {
  case $CLUSTER in
    local) [[ -e /run/netns/${LOCALCLUSTER_NAME:-localcluster} ]] ;;
    kind) kind get clusters 2>/dev/null | grep -qx postroad ;;
    current) true ;;
  esac
}

start_cluster() {
  local arch
  case $CLUSTER in
    local)
      "$tools/cluster" up
      deploy/image/build
      patiently "loading the image" "$tools/cluster" load "target/image/postroad-$(dpkg --print-architecture).tar"
      ;;
    kind)
      mkdir -p "${KUBECONFIG%/*}"
      arch=$(docker version -f '{{.Server.Arch}}')
      deploy/image/build "$arch"
      if cluster_exists; then
        kind export kubeconfig --name postroad --kubeconfig "$KUBECONFIG"
      else
        patiently "starting kind" kind create cluster --name postroad --kubeconfig "$KUBECONFIG" --wait 2m
      fi
      patiently "loading the image" kind load image-archive --name postroad "target/image/postroad-$arch.tar"
      ;;
    current)
      : "${IMAGE:?set IMAGE to the name and tag under which the cluster can pull the image}"
      step "using the cluster of $(kubectl config current-context); it pulls $IMAGE"
      ;;
  esac
  [[ $CLUSTER == current ]] || IMAGE=$(<target/image/name)
}

stop_cluster() {
  case $CLUSTER in
    local) "$tools/cluster" down ;;
    kind) kind delete cluster --name postroad --kubeconfig "$KUBECONFIG" && rm -rf "${KUBECONFIG%/*}" ;;
  esac
}

product_is_installed() { in_cluster helm status postroad --namespace $system >/dev/null 2>&1; }

install_product() { # HELM-OPTIONS...
  local policy=Never
  [[ $CLUSTER == current ]] && policy=IfNotPresent
  in_cluster kubectl get namespace $system >/dev/null 2>&1 || make_namespace $system
  patiently "helm install" in_cluster helm upgrade --install postroad charts/postroad --namespace $system --wait --timeout 3m \
    --set image.repository="${IMAGE%:*}" --set image.tag="${IMAGE##*:}" --set image.pullPolicy=$policy "$@"
}

# Puts `kubectl postroad` into PATH, compiled now, if it is not there: the local cluster has it as it was compiled beside the image's
# programs.
provide_plugin() {
  local compiled
  if in_cluster kubectl postroad --help >/dev/null 2>&1; then return; fi
  need_rust
  patiently "compiling the kubectl plugin (minutes the first time)" cargo build --release --locked -p kubectl-postroad
  compiled=$(realpath "${CARGO_TARGET_DIR:-target}")/release
  step "to type commands of the plugin: PATH=$compiled:\$PATH"
  PATH=$compiled:$PATH
}

make_namespace() { # NAME LABELS...: uninstall_product takes it away again
  in_cluster kubectl create namespace "$1"
  in_cluster kubectl label namespace "$1" postroad.dev/made-by="$MADE_BY" "${@:2}" >/dev/null
}

uninstall_product() {
  in_cluster helm uninstall postroad --namespace $system --ignore-not-found --wait
  in_cluster kubectl delete namespace --selector postroad.dev/made-by="$MADE_BY"
  # Uninstalling keeps the definitions of the custom resources, and rightly so where there are any.
  if [[ -z $(in_cluster kubectl get smtprelays,smtpcredentials --all-namespaces -o name 2>/dev/null) ]]; then
    in_cluster kubectl delete --ignore-not-found -f crds/
  else
    step "there are SmtpRelays or SmtpCredentials that were not made here: their definitions stay"
  fi
}

# Sets PROVIDER_HOST where it is not set: nodes reach the world outside at the address from which that reaches them.
provider_host() { # CMD...: what runs a command in the world outside
  [[ -z ${PROVIDER_HOST:-} ]] || return 0
  local node
  node=$(in_cluster kubectl get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  node=${node%% *} # it may also have one of IPv6
  PROVIDER_HOST=$("$@" ip -oneline route get "$node" | sed -n 's/.* src \([^ ]*\).*/\1/p')
  [[ -n $PROVIDER_HOST ]] || die "there is no route to the node at '$node': set PROVIDER_HOST to the address at which pods reach this machine"
  export PROVIDER_HOST
}
