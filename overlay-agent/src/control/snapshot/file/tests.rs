use std::os::unix::fs::FileExt as _;

use super::*;

fn whose() -> Whose {
    Whose {
        store: "http://a".to_owned(),
        prefix: "overlay/".to_owned(),
        node: "1".to_owned(),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn entries(of: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
    of.iter().map(owned).collect()
}

fn write(file: &mut File, contact: u64, of: &[(&str, &str)]) -> Result<(), FileError> {
    file.write(at(contact), |writing| {
        writing.level("a/", "a/\u{7f}", &entries(of))?;
        writing.whole(&["a/".to_owned()])
    })
}

/// What a file holds, as "key=value …", and when the store was heard of.
fn read(file: &mut File) -> Option<(String, SystemTime)> {
    let mut text = Vec::new();
    let loaded = file.load(|pairs| {
        let shown = |pair: KvPair| format!("{}={}", pair.key, String::from_utf8_lossy(&pair.value));
        text.extend(pairs.into_iter().map(shown));
    });
    let loaded = loaded.unwrap()?;
    assert_eq!(loaded.whole, ["a/"]);
    Some((text.join(" "), loaded.contact))
}

#[test]
fn what_was_written_is_read_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut file = File::new(path.clone(), whose());
    assert!(read(&mut file).is_none());
    assert!(!path.exists(), "looking makes no file");

    write(&mut file, 7, &[("a/1", "x"), ("a/2", "y"), ("a/4", "z")]).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Others are not touched, and what is gone goes.
    file.write(at(8), |writing| {
        writing.level("b/", "b/\u{7f}", &entries(&[("b/1", "w")]))
    })
    .unwrap();
    write(&mut file, 9, &[("a/1", "x"), ("a/2", "Y"), ("a/3", "v")]).unwrap();
    drop(file);

    let mut file = File::new(path.clone(), whose());
    let (text, contact) = read(&mut file).unwrap();
    assert_eq!(text, "a/1=x a/2=Y a/3=v b/1=w");
    assert_eq!(contact, at(9));
    drop(file);

    // Another store's address: not used, and kept until that one was read.
    let elsewhere = Whose {
        store: "http://b".to_owned(),
        ..whose()
    };
    let mut file = File::new(path.clone(), elsewhere);
    assert!(read(&mut file).is_none());
    write(&mut file, 10, &[("a/1", "x")]).unwrap();
    assert_eq!(read(&mut file).unwrap().0, "a/1=x b/1=w");
    assert!(!aside(&path).exists());
}

#[test]
fn what_fails_half_way_was_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = File::new(dir.path().join("snapshot"), whose());
    write(&mut file, 7, &[("a/1", "x")]).unwrap();
    let failed = file.write(at(8), |writing| {
        writing.level("a/", "a/\u{7f}", &[])?;
        Err(redb::Error::Io(io::ErrorKind::StorageFull.into()))
    });
    assert!(failed.unwrap_err().to_string().contains("snapshot"));
    assert_eq!(read(&mut file), Some(("a/1=x".to_owned(), at(7))));
}

#[test]
fn another_nodes_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    write(&mut File::new(path.clone(), whose()), 7, &[("a/1", "x")]).unwrap();
    for other in [
        Whose {
            node: "2".to_owned(),
            ..whose()
        },
        Whose {
            prefix: "test/".to_owned(),
            ..whose()
        },
    ] {
        let mut file = File::new(path.clone(), other);
        assert!(file.load(|_| panic!("used")).is_err());
        assert!(aside(&path).exists() && !path.exists());
        assert!(file.load(|_| panic!("used")).unwrap().is_none());
        write(&mut file, 8, &[("a/1", "y")]).unwrap();
        assert_eq!(read(&mut file), Some(("a/1=y".to_owned(), at(8))));
    }
}

/// Whatever becomes of the file: it is used as it was, or not at all, and the next one is good.
#[test]
fn a_corrupt_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let good = {
        let many: Vec<_> = (0..2000)
            .map(|n| (format!("a/{n:04}"), vec![b'x'; 50]))
            .collect();
        let mut file = File::new(path.clone(), whose());
        let written = file.write(at(7), |writing| writing.level("a/", "a/\u{7f}", &many));
        written.unwrap();
        drop(file);
        fs::read(&path).unwrap()
    };
    let mut aside_count = 0;
    for (from, to) in [
        (0, 64),
        (0, 4096),
        (4096, 8192),
        (8192, good.len() / 2),
        (good.len() / 4, good.len() / 4 + 100),
    ] {
        let _ = fs::remove_file(aside(&path));
        fs::write(&path, &good).unwrap();
        let disk = OpenOptions::new().write(true).open(&path).unwrap();
        disk.write_all_at(&vec![0xa5; to - from], from as u64)
            .unwrap();
        drop(disk);
        let mut file = File::new(path.clone(), whose());
        let mut pairs = 0;
        let loaded = file.load(|piece| pairs += piece.len());
        match loaded {
            Ok(Some(_)) => assert_eq!(pairs, 2000, "a damage that is not seen at {from}"),
            Ok(None) => panic!("damage at {from} was taken for nothing"),
            Err(_) => {
                aside_count += 1;
                assert!(aside(&path).exists(), "damage at {from}");
                write(&mut file, 8, &[("a/1", "y")]).unwrap();
                assert_eq!(read(&mut file), Some(("a/1=y".to_owned(), at(8))));
            }
        }
    }
    assert!(aside_count >= 3, "{aside_count}");
    // Cut short.
    fs::write(&path, &good[..good.len() / 3]).unwrap();
    assert!(File::new(path.clone(), whose()).load(|_| ()).is_err());
    assert!(!path.exists());
    // Nothing in it: as good as none.
    fs::write(&path, b"").unwrap();
    assert!(
        File::new(path.clone(), whose())
            .load(|_| ())
            .unwrap()
            .is_none()
    );
}
