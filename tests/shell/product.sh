# shellcheck shell=bash
# Sourced after steps.sh: puts the product on a cluster. Used by the demo and by the cluster tests.
#
#   CLUSTER     local (made here), kind, or current (whatever KUBECONFIG says)
#   IMAGE       name and tag; for `current` it must be set, and pullable there
#   in_cluster  CMD...: run a command that reaches the cluster's API, pods and Services

tools=$PWD/tests/localcluster

choose_cluster() {
  if [[ -n ${DEMO_CLUSTER:-} ]]; then
    CLUSTER=$DEMO_CLUSTER
  elif [[ -n ${KUBECONFIG:-} ]]; then
    CLUSTER=current
  elif [[ $(uname -s) == Linux && $EUID == 0 ]]; then
    CLUSTER=local
  elif command -v kind >/dev/null && docker info >/dev/null 2>&1; then
    CLUSTER=kind
  else
    die "no cluster: run as root on Linux, or install kind and Docker, or set DEMO_CLUSTER=current for the cluster of your KUBECONFIG"
  fi
}

in_cluster() {
  case $CLUSTER in
    local) "$tools/cluster" run "$@" ;;
    *) "$@" ;;
  esac
}

start_cluster() {
  case $CLUSTER in
    local)
      "$tools/cluster" up
      deploy/image/build
      patiently "loading the image" "$tools/cluster" load "target/image/postroad-$(dpkg --print-architecture).tar"
      ;;
    kind)
      deploy/image/build
      kind get clusters | grep -qx postroad || patiently "starting kind" kind create cluster --name postroad
      patiently "loading the image" kind load image-archive --name postroad "target/image/postroad-$(docker version -f '{{.Server.Arch}}').tar"
      kubectl config use-context kind-postroad >/dev/null
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
    kind) kind delete cluster --name postroad ;;
  esac
}

install_product() { # HELM-OPTIONS...
  local policy=Never
  [[ $CLUSTER == current ]] && policy=IfNotPresent
  patiently "helm install" in_cluster helm upgrade --install postroad charts/postroad \
    --namespace postroad-system --create-namespace --wait --timeout 3m \
    --set image.repository="${IMAGE%:*}" --set image.tag="${IMAGE##*:}" --set image.pullPolicy=$policy "$@"
}
