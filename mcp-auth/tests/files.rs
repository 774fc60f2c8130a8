//! Secrets in age and SOPS files: with the program `age`, a file that the program `sops` has written, and another
//! implementation of its format.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use mcp_auth::vault::{
    StoredKey, Vault,
    file::{AgeKeys, SecretFile},
};
use mcp_core::{
    Partition, Principal, Shared,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{MemoryStore, Namespace, StoreErrorKind},
    testing::secret_store_contract,
};

fn shared() -> SecretScope {
    let owner = Partition::shared(Shared::by_operator());
    SecretScope::new(Namespace::new("oauth").unwrap(), owner)
}

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

fn run(command: &mut Command) -> Output {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; run .ci/test"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}; run .ci/test");
    output
}

/// Makes a key with the real program: the path of its file, what is in it, and the recipient.
fn keygen(dir: &Path, file: &str) -> (String, Secret, String) {
    let path = dir.join(file).display().to_string();
    run(Command::new("age-keygen").args(["-o", &path]));
    let text = fs::read_to_string(&path).unwrap();
    let recipient = text
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    (
        path,
        Secret::new(text.clone()),
        recipient.unwrap().to_owned(),
    )
}

fn unseal(file: &Path, path: &str, key: &Secret) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/vault-tools");
    let line = key.secret().lines().find(|line| line.starts_with("AGE-"));
    let mut command = Command::new(script);
    command.arg("unseal").arg(file).arg(path);
    let output = run(command.env("AGE_KEY", line.unwrap()));
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

#[tokio::test]
async fn files_keep_the_contract_of_secret_stores() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity, _) = keygen(dir.path(), "key");
    let keys = AgeKeys::new(&identity).unwrap();
    let age = SecretFile::age(dir.path().join("secrets.age"), keys.clone());
    secret_store_contract(&age).await;
    for file in ["secrets.json", "secrets.yaml"] {
        let sops = SecretFile::sops(dir.path().join(file), keys.clone());
        secret_store_contract(&sops).await;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let written = fs::metadata(dir.path().join("secrets.age")).unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn the_program_age_opens_what_is_written_here_and_the_other_way() {
    let dir = tempfile::tempdir().unwrap();
    let (path, identity, recipient) = keygen(dir.path(), "key");
    let (other_path, _, other) = keygen(dir.path(), "other");
    let keys = AgeKeys::from_file(&path).await.unwrap();
    let file = dir.path().join("secrets.age");
    let secrets = SecretFile::age(&file, keys.with_recipient(&other).unwrap());
    secrets
        .put(&shared(), &name("token"), Secret::new("hunter2"))
        .await
        .unwrap();
    let sealed = fs::read_to_string(&file).unwrap();
    assert!(
        sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"),
        "{sealed}"
    );
    for key in [&path, &other_path] {
        let plain = run(Command::new("age").args(["-d", "-i", key]).arg(&file)).stdout;
        let plain: serde_json::Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(plain["oauth"]["shared"]["token"], "hunter2");
    }
    // As text and as bytes.
    for armor in [true, false] {
        let plain = dir.path().join("plain.json");
        fs::write(&plain, r#"{"oauth":{"shared":{"token":"by age","n":7}}}"#).unwrap();
        let theirs = dir.path().join(format!("theirs-{armor}.age"));
        let mut seal = Command::new("age");
        if armor {
            seal.arg("-a");
        }
        seal.args(["-e", "-r", &recipient, "-o"]);
        run(seal.arg(&theirs).arg(&plain));
        let secrets = SecretFile::age(&theirs, AgeKeys::new(&identity).unwrap());
        let token = secrets.get(&shared(), &name("token")).await.unwrap();
        assert_eq!(token, Some(Secret::new("by age")));
        let number = secrets.get(&shared(), &name("n")).await.unwrap();
        assert_eq!(number, Some(Secret::new("7")));
        assert_eq!(
            secrets.list(&shared()).await.unwrap(),
            [name("n"), name("token")]
        );
    }
}

/// Written by sops 3.7.1 for this identity, which was made to be published.
const SOPS: &str = include_str!("files/by-sops.yaml");
const SOPS_KEY: &str = "AGE-SECRET-KEY-1YQMYYAHGUU5VK67GKY6RM8YEKTW687RT9KPUG5X8FD0F988PCXKQXM8RMY";

#[tokio::test]
async fn a_file_of_the_program_sops_is_opened_and_its_seal_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("by-sops.yaml");
    let keys = AgeKeys::new(&Secret::new(SOPS_KEY)).unwrap();
    let open = |text: &str| {
        fs::write(&file, text).unwrap();
        SecretFile::sops(&file, keys.clone())
    };
    let secrets = open(SOPS);
    // Its values do not lie where those of users would: it opens, and there is nothing of theirs.
    assert_eq!(secrets.get(&shared(), &name("x")).await.unwrap(), None);
    // One more secret leaves what is there as it is, to the letter.
    secrets
        .put(&shared(), &name("x"), Secret::new("new"))
        .await
        .unwrap();
    let both = fs::read_to_string(&file).unwrap();
    let value = SOPS
        .lines()
        .find(|line| line.contains("SOME SECRET"))
        .unwrap();
    assert!(
        both.contains(value.trim().split_once(": ").unwrap().1),
        "{both}"
    );
    assert_eq!(
        unseal(&file, "oauth.shared.x", &Secret::new(SOPS_KEY)),
        "new"
    );
    let theirs = unseal(&file, "secrets.SOME SECRET", &Secret::new(SOPS_KEY));
    assert!(!theirs.is_empty() && !theirs.contains("ENC["), "{theirs}");
    let again = SecretFile::sops(&file, keys.clone());
    let found = again.get(&shared(), &name("x")).await.unwrap();
    assert_eq!(found, Some(Secret::new("new")));
    let iv = value.split("iv:").nth(1).unwrap();
    for (what, changed) in [
        ("a value removed", SOPS.replace(value, "    other: x")),
        (
            "a value in the clear",
            SOPS.replace(value, "    SOME SECRET: x"),
        ),
        ("a value renamed", SOPS.replace("SOME SECRET", "SOME OTHER")),
        (
            "a value beside",
            SOPS.replace(value, &format!("{value}\n    more: x")),
        ),
        ("another date", SOPS.replace("2022-05-23", "2022-05-24")),
        ("another nonce", SOPS.replace(iv, &iv.replacen('9', "8", 1))),
        ("no seal", SOPS.replace("    mac:", "    mack:")),
        ("no metadata", SOPS.replace("sops:", "sop:")),
        ("cut", SOPS[..SOPS.len() / 2].to_owned()),
        ("nothing", String::new()),
    ] {
        assert_ne!(changed, SOPS, "{what}");
        let secrets = open(&changed);
        let error = secrets.get(&shared(), &name("x")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}");
        // What does not open is not written over.
        let error = secrets.put(&shared(), &name("x"), Secret::new("y")).await;
        assert!(error.is_err(), "{what}");
        assert_eq!(fs::read_to_string(&file).unwrap(), changed, "{what}");
    }
}

#[tokio::test]
async fn another_implementation_of_sops_opens_what_is_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity, _) = keygen(dir.path(), "key");
    for file in ["secrets.json", "secrets.yaml"] {
        let file = dir.path().join(file);
        let secrets = SecretFile::sops(&file, AgeKeys::new(&identity).unwrap());
        for (own, text) in [
            ("token", "hunter2"),
            ("other", "ä: \"x\"\n- y"),
            ("empty", ""),
        ] {
            secrets
                .put(&shared(), &name(own), Secret::new(text))
                .await
                .unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains("hunter2") && text.contains("ENC[AES256_GCM,"),
            "{text}"
        );
        assert_eq!(unseal(&file, "oauth.shared.token", &identity), "hunter2");
        assert_eq!(
            unseal(&file, "oauth.shared.other", &identity),
            "ä: \"x\"\n- y"
        );
        assert_eq!(
            secrets.get(&shared(), &name("empty")).await.unwrap(),
            Some(Secret::new(""))
        );
    }
}

#[tokio::test]
async fn no_secret_stands_in_the_clear_and_no_other_key_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity, _) = keygen(dir.path(), "key");
    let (_, stranger, _) = keygen(dir.path(), "stranger");
    let file = dir.path().join("secrets.yaml");
    let secrets = SecretFile::sops(&file, AgeKeys::new(&identity).unwrap());
    secrets
        .put(&shared(), &name("a"), Secret::new("x"))
        .await
        .unwrap();
    let (scope, bad) = (shared(), name("a_unencrypted"));
    let clear = secrets.put(&scope, &bad, Secret::new("x"));
    assert_eq!(clear.await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    let metadata = SecretScope::new(Namespace::new("sops").unwrap(), *shared().owner());
    assert!(
        secrets
            .put(&metadata, &name("mac"), Secret::new("x"))
            .await
            .is_err()
    );
    let before = fs::read(&file).unwrap();
    for (file, other) in [
        (
            &file,
            SecretFile::sops(&file, AgeKeys::new(&stranger).unwrap()),
        ),
        (
            &file,
            SecretFile::age(&file, AgeKeys::new(&identity).unwrap()),
        ),
    ] {
        let error = other.get(&shared(), &name("a")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(
            other
                .put(&shared(), &name("b"), Secret::new("y"))
                .await
                .is_err()
        );
        assert!(other.delete(&shared(), &name("a")).await.is_err());
        assert_eq!(fs::read(file).unwrap(), before);
    }
    let shown = format!("{secrets:?} {:?}", AgeKeys::new(&identity).unwrap());
    assert!(!shown.contains("AGE-SECRET"), "{shown}");
    for bad in ["", "# nothing", "AGE-SECRET-KEY-1XX", "ssh-ed25519 AAAA"] {
        assert!(AgeKeys::new(&Secret::new(bad)).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_file_that_somebody_has_edited_is_read_again_and_writers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity, _) = keygen(dir.path(), "key");
    let keys = AgeKeys::new(&identity).unwrap();
    let file = dir.path().join("secrets.json");
    let one = SecretFile::sops(&file, keys.clone());
    let other = SecretFile::sops(&file, keys);
    let writes = (0..12).map(|n| {
        let store = if n % 2 == 0 {
            one.clone()
        } else {
            other.clone()
        };
        async move {
            let text = Secret::new(n.to_string());
            store
                .put(&shared(), &name(&format!("n{n}")), text)
                .await
                .unwrap();
        }
    });
    futures_util::future::join_all(writes).await;
    for store in [&one, &other] {
        assert_eq!(
            store.list(&shared()).await.unwrap().len(),
            12,
            "no write is lost"
        );
    }
    one.put(&shared(), &name("n1"), Secret::new("a longer one"))
        .await
        .unwrap();
    let seen = other.get(&shared(), &name("n1")).await.unwrap();
    assert_eq!(seen, Some(Secret::new("a longer one")));
}

#[tokio::test]
async fn the_key_of_a_vault_lies_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity, _) = keygen(dir.path(), "key");
    let file = SecretFile::age(dir.path().join("s.age"), AgeKeys::new(&identity).unwrap());
    let store: Arc<dyn SecretStore> = Arc::new(file);
    let key = StoredKey::new(store.clone(), shared(), name("vault-key"));
    let missing = Vault::open(Arc::new(MemoryStore::default()), &key).await;
    assert!(missing.is_err(), "a key that is not there opens nothing");
    store
        .put(&shared(), &name("vault-key"), Secret::new("k".repeat(32)))
        .await
        .unwrap();
    let states = Arc::new(MemoryStore::default());
    let vault = Vault::open(states.clone(), &key).await.unwrap();
    let alice = Partition::of(&Principal::authenticated("https://as.example", "alice"));
    let scope = SecretScope::new(Namespace::new("oauth").unwrap(), alice);
    vault
        .put(&scope, &name("t"), Secret::new("x"))
        .await
        .unwrap();
    let again = Vault::open(states, &key).await.unwrap();
    assert_eq!(
        again.get(&scope, &name("t")).await.unwrap(),
        Some(Secret::new("x"))
    );
}

/// Runs the program sops with the key in a file.
fn sops(key: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/vault-tools");
    let mut command = Command::new(script);
    command.env("SOPS_AGE_KEY_FILE", key).arg("sops");
    let output = run(command.args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

/// Whatever people write: dates, comments, numbers that are none, texts that look like something else.
const PLAIN: &str = r##"# at the top
day: 2024-01-02
stamp: 2024-01-02T03:04:05Z
quoted: "2024-01-02"
list:
    - a
    # between the elements
    - b
inf: .inf
ninf: -.inf
nan: .nan
floats: [1.0, 1e3, 0.1, 12345678901234567890.5]
octal: 017
hex: 0x1F
big: 123456789012345678901234567890
yes_: yes
flag: true
nothing: null
empty: ""
multi: |
    x
    y
nested:
    # inside
    k: v # trailing
oauth:
    # of the shared user
    shared:
        token: hunter2
"##;

#[tokio::test]
async fn files_that_the_program_sops_writes_are_opened_and_what_is_written_is_opened_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, identity, recipient) = keygen(dir.path(), "key");
    let plain = dir.path().join("plain.yaml");
    let open = |file: &Path| SecretFile::sops(file, AgeKeys::new(&identity).unwrap());
    let in_clear = format!("{PLAIN}last_unencrypted: 1.5\n");
    let dated = format!("{PLAIN}day_unencrypted: 2024-01-02\n");
    let number =
        format!("{PLAIN}n_unencrypted: 123456789012345678901234567890\ni_unencrypted: .inf\n");
    for (what, text, rule) in [
        ("everything sealed", PLAIN, &[][..]),
        ("a number in the clear", &in_clear, &[]),
        ("a date in the clear", &dated, &[]),
        ("numbers that are none in the clear", &number, &[]),
        (
            "by a regular expression",
            PLAIN,
            &["--encrypted-regex", "^(oauth|token)$"],
        ),
        (
            "but for a regular expression",
            PLAIN,
            &["--unencrypted-regex", "^day$"],
        ),
        (
            "only sealed values under the seal",
            PLAIN,
            &["--encrypted-regex", "^oauth$", "--mac-only-encrypted"],
        ),
    ] {
        fs::write(&plain, text).unwrap();
        let mut arguments = vec!["--encrypt", "--age", &recipient];
        arguments.extend(rule);
        arguments.push(plain.to_str().unwrap());
        let sealed = sops(&path, &arguments);
        let file = dir.path().join("sealed.yaml");
        fs::write(&file, &sealed).unwrap();
        let secrets = open(&file);
        let token = secrets.get(&shared(), &name("token")).await;
        let token = token.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(token, Some(Secret::new("hunter2")), "{what}");
        program_opens_what_is_written(&path, &file, &secrets, what).await;
    }
}

/// Another secret and another value: the program opens what is written, and comments are where they were.
async fn program_opens_what_is_written(key: &str, file: &Path, secrets: &SecretFile, what: &str) {
    let before = fs::read_to_string(file).unwrap();
    let put = async |own: &str| secrets.put(&shared(), &name(own), Secret::new("new")).await;
    put("token")
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    put("more").await.unwrap();
    let written = fs::read_to_string(file).unwrap();
    let comments = |text: &str| {
        let lines = text.lines().map(str::trim_start);
        lines.filter(|line| line.starts_with('#')).count()
    };
    assert_eq!(comments(&written), comments(&before), "{what}");
    let opened = sops(key, &["--decrypt", file.to_str().unwrap()]);
    for said in [
        "token: new",
        "more: new",
        "# at the top",
        "# of the shared user",
        "# between the elements",
    ] {
        assert!(opened.contains(said), "{what}: {said}: {opened}");
    }
}

#[tokio::test]
async fn a_sops_file_with_several_documents_is_read_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (path, identity, recipient) = keygen(dir.path(), "key");
    let plain = dir.path().join("plain.yaml");
    fs::write(
        &plain,
        "a: 1\n---\noauth:\n    shared:\n        token: hunter2\n",
    )
    .unwrap();
    let sealed = sops(
        &path,
        &["--encrypt", "--age", &recipient, plain.to_str().unwrap()],
    );
    let file = dir.path().join("sealed.yaml");
    fs::write(&file, &sealed).unwrap();
    let secrets = SecretFile::sops(&file, AgeKeys::new(&identity).unwrap());
    let token = secrets.get(&shared(), &name("token")).await.unwrap();
    assert_eq!(token, Some(Secret::new("hunter2")));
    let error = secrets
        .put(&shared(), &name("token"), Secret::new("x"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("several documents"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), sealed);
}

#[tokio::test]
async fn a_secret_that_a_regular_expression_leaves_in_the_clear_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (path, identity, recipient) = keygen(dir.path(), "key");
    let plain = dir.path().join("plain.yaml");
    fs::write(&plain, PLAIN).unwrap();
    for rule in [
        ["--encrypted-regex", "^token$"],
        ["--unencrypted-regex", "^clear"],
    ] {
        let mut arguments = vec!["--encrypt", "--age", &recipient];
        arguments.extend(rule);
        arguments.push(plain.to_str().unwrap());
        let file = dir.path().join("sealed.yaml");
        fs::write(&file, sops(&path, &arguments)).unwrap();
        let secrets = SecretFile::sops(&file, AgeKeys::new(&identity).unwrap());
        let put = async |own: &str| secrets.put(&shared(), &name(own), Secret::new("x")).await;
        assert!(put("clear").await.is_err(), "{rule:?}");
        assert!(put("token").await.is_ok(), "{rule:?}");
    }
}
