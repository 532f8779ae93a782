package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// provisionerName is what the StorageClass names.
	provisionerName = "localcluster"
	// selectedNode is set by the scheduler once it has placed the first consumer.
	selectedNode = "volume.kubernetes.io/selected-node"
	// provisionedBy marks our volumes; the volume controller leaves their deletion to us.
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	// pollInterval bounds how long a claim waits; two lists of a few objects cost nothing here.
	pollInterval = 250 * time.Millisecond
)

// provisioner gives every claim an empty directory of its own, and removes it
// with the claim: tests neither run out of volumes nor see each other's data.
//
// The volumes are of type `local` and not `hostPath`, because the kubelet applies
// a pod's fsGroup to the former only, as it does on real storage.
type provisioner struct {
	client kubernetes.Interface
	class  string
	dir    string
}

func runProvisioner(args []string) int {
	flags := flag.NewFlagSet("provisioner", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	class := flags.String("class", "local", "name of the StorageClass to serve")
	dir := flags.String("dir", "", "directory that holds the volumes")
	_ = flags.Parse(args)

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Print(err)
		return 1
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Print(err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	provisioner{client: client, class: *class, dir: *dir}.run(ctx)
	return 0
}

func (p provisioner) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := errors.Join(p.provision(ctx), p.reclaim(ctx)); err != nil && ctx.Err() == nil {
			log.Print(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

func (p provisioner) provision(ctx context.Context) error {
	claims, err := p.client.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{})
	if err != nil {
		return fmt.Errorf("list claims: %w", err)
	}
	var failures error
	for i := range claims.Items {
		if claim := &claims.Items[i]; p.isOurs(claim) {
			failures = errors.Join(failures, p.create(ctx, claim))
		}
	}
	return failures
}

func (p provisioner) isOurs(claim *core.PersistentVolumeClaim) bool {
	class := claim.Spec.StorageClassName
	return class != nil && *class == p.class &&
		claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil &&
		claim.Annotations[selectedNode] != ""
}

func (p provisioner) create(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume(name, path, claim), meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // created by an earlier round; the claim is not bound yet
	}
	if err == nil {
		log.Printf("created %s for %s/%s", name, claim.Namespace, claim.Name)
	}
	return err
}

func volume(name, path string, claim *core.PersistentVolumeClaim) *core.PersistentVolume {
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisionerName}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{
					MatchExpressions: []core.NodeSelectorRequirement{{
						Key: core.LabelHostname, Operator: core.NodeSelectorOpIn,
						Values: []string{claim.Annotations[selectedNode]},
					}},
				}},
			}},
		},
	}
}

func (p provisioner) reclaim(ctx context.Context) error {
	volumes, err := p.client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	var failures error
	for _, pv := range volumes.Items {
		if pv.Status.Phase == core.VolumeReleased && pv.Annotations[provisionedBy] == provisionerName {
			failures = errors.Join(failures, p.remove(ctx, pv.Name, pv.Spec.Local.Path))
		}
	}
	return failures
}

func (p provisioner) remove(ctx context.Context, name, path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		log.Printf("removed %s", name)
	}
	return err
}
