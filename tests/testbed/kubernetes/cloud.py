"""What a cloud gives to a cluster: volumes on demand, and addresses for Services of type LoadBalancer.

usage: cloud.py KUBECONFIG FOLDER NETWORK

Volumes of the default StorageClass `network` are folders of this machine that every node sees, so they follow their
pods like a network disk, and several pods may write to one like a file server. Those of `local` are bound to the node
that their first pod was scheduled to. NETWORK's addresses lead to the control plane, whose kube-proxy knows the rest.
"""

import ipaddress
import os
import shutil
import sys
import threading
import time

from api import Api, Object, key

PROVISIONER = "lampstand.test/cloud"
CORE = "/api/v1"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
SELECTED = "volume.kubernetes.io/selected-node"
DEFAULT = "storageclass.kubernetes.io/is-default-class"


class Cloud:
    """Watches claims, volumes and Services, and gives what is asked for."""

    def __init__(self, kubeconfig: str, folder: str, network: str) -> None:
        self.api = Api(kubeconfig)
        self.folder = folder
        self.addresses = [str(address) for address in ipaddress.ip_network(network).hosts()]
        self.classes = {"network": "Immediate", "local": "WaitForFirstConsumer"}
        self.given: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        """Never returns."""
        for name, mode in self.classes.items():
            meta = {"name": name, "annotations": {DEFAULT: str(name == "network").lower()}}
            body: Object = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": meta}
            self.api.make(CLASSES, body | {"provisioner": PROVISIONER, "volumeBindingMode": mode})
        self.api.watch(f"{CORE}/persistentvolumeclaims", self.claim)
        self.api.watch(f"{CORE}/persistentvolumes", self.volume)
        self.services = self.api.watch(f"{CORE}/services", self.service)
        print(time.strftime("%T"), "serving", flush=True)
        threading.Event().wait()

    def claim(self, claim: Object) -> None:
        """A claim that waits gets its volume."""
        meta, spec = claim["metadata"], claim["spec"]
        name = spec.get("storageClassName")
        node = meta.get("annotations", {}).get(SELECTED)
        if claim["status"].get("phase") != "Pending" or name not in self.classes or spec.get("volumeName"):
            return
        if name == "local" and node is None:
            return  # the scheduler has not chosen yet
        volume = f"pvc-{meta['uid']}"
        path = os.path.join(self.folder, volume)
        os.makedirs(path, exist_ok=True)
        label = "kubernetes.io/hostname"
        match = (
            {"key": label, "operator": "In", "values": [node]}
            if name == "local"
            else {"key": label, "operator": "Exists"}
        )
        self.api.make(
            f"{CORE}/persistentvolumes",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {
                    "name": volume,
                    # The volume controller leaves the deletion to the one who provided.
                    "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
                },
                "spec": {
                    "storageClassName": name,
                    "persistentVolumeReclaimPolicy": "Delete",
                    "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                    "accessModes": spec["accessModes"],
                    "claimRef": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
                    # Unlike a hostPath this kind obeys fsGroup, as a disk does.
                    "local": {"path": path},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [match]}]}},
                },
            },
        )

    def volume(self, volume: Object) -> None:
        """A volume whose claim was deleted goes, with what is on it."""
        meta = volume["metadata"]
        by = meta.get("annotations", {}).get("pv.kubernetes.io/provisioned-by")
        if by == PROVISIONER and volume["status"].get("phase") == "Released":
            shutil.rmtree(volume["spec"]["local"]["path"], ignore_errors=True)
            self.api.open("DELETE", f"{CORE}/persistentvolumes/{meta['name']}").close()

    def service(self, service: Object) -> None:
        """A Service of type LoadBalancer gets an address."""
        if service["spec"].get("type") != "LoadBalancer" or service["status"]["loadBalancer"].get("ingress"):
            return
        alive = set(self.services) | {key(service)}
        self.given = {owner: address for owner, address in self.given.items() if owner in alive}
        free = next(a for a in self.addresses if a not in self.given.values())
        address = self.given.setdefault(key(service), free)
        namespace, name = key(service)
        self.api.open(
            "PATCH",
            f"{CORE}/namespaces/{namespace}/services/{name}/status",
            {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}},
            kind="application/merge-patch+json",
        ).close()


if __name__ == "__main__":
    Cloud(*sys.argv[1:4]).run()
