//! The volumes of a Pod as folders: what is in Secrets, ConfigMaps and tokens as files, replaced at once by a rename of `..data`
//! as a kubelet does it, with the modes and the group that the Pod asks for.

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, KeyToPath, Pod, Secret, ServiceAccount, Volume, VolumeProjection},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};

use super::container::{Data, Kind, field};
use crate::common::mount::replace;

/// A file to be: its content and its mode.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// All that the Pod's volumes and variables take from.
pub async fn data(client: &Client, namespace: &str) -> Data {
    let mut data = Data::new();
    for secret in Api::<Secret>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.unwrap() {
        let entries = secret.data.clone().unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        data.insert((Kind::Secret, secret.name_any()), entries);
    }
    for map in Api::<ConfigMap>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.unwrap() {
        let entries = map.data.clone().unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        data.insert((Kind::ConfigMap, map.name_any()), entries);
    }
    data
}

/// Writes every volume below `directory`; `tokens` are those already asked for, by volume and path.
pub fn write(directory: &Path, pod: &Pod, data: &Data, tokens: &Files, address: &str) {
    let spec = pod.spec.as_ref().unwrap();
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    for volume in spec.volumes.iter().flatten() {
        let folder = directory.join(&volume.name);
        if volume.empty_dir.is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o2777)).unwrap();
            continue;
        }
        put(&folder, &files(pod, volume, data, tokens, address), group);
    }
}

fn files(pod: &Pod, volume: &Volume, data: &Data, tokens: &Files, address: &str) -> Files {
    let mut files = Files::new();
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap();
        take(&mut files, data, (Kind::Secret, name), secret.items.as_deref(), secret.default_mode, secret.optional);
    } else if let Some(map) = &volume.config_map {
        take(&mut files, data, (Kind::ConfigMap, map.name.clone()), map.items.as_deref(), map.default_mode, map.optional);
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            project(&mut files, pod, source, data, projected.default_mode, address);
            if let Some(token) = &source.service_account_token {
                files.insert(token.path.clone(), tokens[&format!("{}/{}", volume.name, token.path)].clone());
            }
        }
    } else {
        panic!("the volume {} is of a kind that is not read here", volume.name);
    }
    files
}

fn project(files: &mut Files, pod: &Pod, source: &VolumeProjection, data: &Data, mode: Option<i32>, address: &str) {
    if let Some(secret) = &source.secret {
        take(files, data, (Kind::Secret, secret.name.clone()), secret.items.as_deref(), mode, secret.optional);
    }
    if let Some(map) = &source.config_map {
        take(files, data, (Kind::ConfigMap, map.name.clone()), map.items.as_deref(), mode, map.optional);
    }
    for item in source.downward_api.iter().flat_map(|downward| downward.items.iter().flatten()) {
        let value = field(pod, &item.field_ref.as_ref().unwrap().field_path, address);
        files.insert(item.path.clone(), (value.into_bytes(), bits(item.mode.or(mode))));
    }
}

fn take(files: &mut Files, data: &Data, from: (Kind, String), items: Option<&[KeyToPath]>, mode: Option<i32>, optional: Option<bool>) {
    let Some(entries) = data.get(&from) else {
        assert!(optional.unwrap_or_default(), "a volume is of {from:?}, which is not there");
        return;
    };
    let Some(items) = items else {
        files.extend(entries.iter().map(|(key, value)| (key.clone(), (value.clone(), bits(mode)))));
        return;
    };
    for item in items {
        let value = entries.get(&item.key).unwrap_or_else(|| panic!("{from:?} has no key {}", item.key));
        files.insert(item.path.clone(), (value.clone(), bits(item.mode.or(mode))));
    }
}

fn bits(mode: Option<i32>) -> u32 {
    u32::try_from(mode.unwrap_or(0o644)).unwrap()
}

/// The files of `folder` become these, all at once; nothing is touched if they are these already.
fn put(folder: &Path, files: &Files, group: Option<i64>) {
    let current = folder.join("..data");
    if files.iter().all(|(name, (content, _))| std::fs::read(current.join(name)).is_ok_and(|there| there == *content)) && current.exists() {
        return;
    }
    replace(folder, |fresh| {
        for (name, (content, mode)) in files {
            let path = fresh.join(name);
            std::fs::write(&path, content).unwrap();
            // With fsGroup the group owns the file and may read it (kubernetes.io/docs: volume permission and ownership change).
            let mode = if group.is_some() { mode | 0o440 } else { *mode };
            own(&path, group);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    });
    for name in files.keys() {
        let link = folder.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
}

fn own(path: &Path, group: Option<i64>) {
    if let (Some(group), true) = (group, super::is_root()) {
        chown(path, None, Some(u32::try_from(group).unwrap())).unwrap();
    }
}

/// Tokens of the Pod's service account, bound to the Pod, as its projected volumes ask for them.
pub async fn tokens(client: &Client, pod: &Pod) -> Files {
    let spec = pod.spec.as_ref().unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    let account = spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned());
    let mut tokens = Files::new();
    for volume in spec.volumes.iter().flatten() {
        let Some(projected) = &volume.projected else { continue };
        for token in projected.sources.iter().flatten().filter_map(|source| source.service_account_token.as_ref()) {
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    audiences: token.audience.clone().map(|audience| vec![audience]),
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".to_owned()),
                        kind: Some("Pod".to_owned()),
                        name: pod.metadata.name.clone(),
                        uid: pod.uid(),
                    }),
                    expiration_seconds: token.expiration_seconds,
                    ..TokenRequestSpec::default()
                }),
                ..TokenRequest::default()
            };
            let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await.unwrap();
            let mode = bits(projected.default_mode);
            tokens.insert(format!("{}/{}", volume.name, token.path), (answer.status.unwrap().token.unwrap().into_bytes(), mode));
        }
    }
    tokens
}

/// Where a container sees which folder: `(folder, path, read-only)`.
pub fn mounts(directory: &Path, container: &k8s_openapi::api::core::v1::Container) -> Vec<(PathBuf, String, bool)> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| {
            assert!(mount.sub_path.is_none(), "{}: a subPath does not follow a rotated Secret", mount.name);
            (directory.join(&mount.name), mount.mount_path.clone(), mount.read_only.unwrap_or_default())
        })
        .collect()
}
