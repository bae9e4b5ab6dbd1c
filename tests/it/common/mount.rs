//! A folder as kubelet mounts a Secret or ConfigMap into a container: `key` links to `..data/key`, and `..data` to a folder that
//! is replaced by renaming a link. All keys change in one moment; no file is ever half written.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// The folder; removed when dropped.
pub struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Mount {
    /// A mount with these keys.
    pub fn new(keys: &[(&str, &str)]) -> Self {
        let mount = Self(std::env::temp_dir().join(format!("sync-operator-mount-{}", Uuid::new_v4())));
        std::fs::create_dir(&mount.0).unwrap();
        mount.swap(keys);
        for (key, _) in keys {
            symlink(Path::new("..data").join(key), mount.0.join(key)).unwrap();
        }
        mount
    }

    /// Gives the keys new values.
    pub fn swap(&self, keys: &[(&str, &str)]) {
        replace(&self.0, |fresh| {
            for (key, value) in keys {
                std::fs::write(fresh.join(key), value).unwrap();
            }
        });
    }

    /// The file of a key.
    pub fn file(&self, key: &str) -> String {
        self.0.join(key).display().to_string()
    }
}

/// What `..data` of `folder` leads to becomes what `fill` puts into a fresh folder, in one moment.
pub fn replace(folder: &Path, fill: impl FnOnce(&Path)) {
    let dated = format!("..{}", Uuid::new_v4());
    std::fs::create_dir_all(folder.join(&dated)).unwrap();
    fill(&folder.join(&dated));
    let (data, draft) = (folder.join("..data"), folder.join("..data_tmp"));
    let before = std::fs::read_link(&data).ok();
    symlink(&dated, &draft).unwrap();
    std::fs::rename(draft, data).unwrap();
    if let Some(before) = before {
        std::fs::remove_dir_all(folder.join(before)).unwrap();
    }
}
