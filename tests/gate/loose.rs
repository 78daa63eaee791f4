//! Are files refused that others on the machine can read or change?

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use crate::support::gate::{Builder, Folder, NOBODY, claims, sign};
use crate::support::reload::{Verdict, reload};
use crate::support::rows;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /basic/**, upstream: app, credential: { basic: { username: gate, password_file: upstream-password } } }
  - { path: /header/**, upstream: app, credential: { header: { name: X-Api-Key, value_file: api-key } } }
  - { path: /users/**, upstream: app, credential: { per_user: { file: per-user } } }
";

/// File, permissions, where it is named, what is said of it.
const LOOSE: &str = "
k1                | 0644 | tokens.keys[0].secret_file | can be read by everybody (mode 0644)
k1                | 0604 | tokens.keys[0].secret_file | can be read by everybody
k1                | 0620 | tokens.keys[0].secret_file | can be changed by its group
k1                | 0666 | tokens.keys[0].secret_file | can be read and changed by everybody
rsa.pem           | 0644 | tokens.keys[1].private_key_file | can be read by everybody
rsa.pub           | 0666 | tokens.keys[2].public_key_file | can be changed by everybody
seal              | 0444 | tokens.seal_key_file | can be read by everybody
users.yaml        | 0644 | identity[0].users_file | can be read by everybody
upstream-password | 0644 | routes[0].credential.basic.password_file | can be read by everybody
api-key           | 0644 | routes[1].credential.header.value_file | can be read by everybody
per-user          | 0644 | routes[2].credential.per_user.file | can be read by everybody
gate.key          | 0644 | listeners[0].tls.private_key | can be read by everybody
gate.crt          | 0646 | listeners[0].tls.certificate | can be changed by everybody
gate.crt          | 0664 | listeners[0].tls.certificate | can be changed by its group
ca.crt            | 0666 | upstreams.app.ca_file | can be changed by everybody
tollgate.yaml     | 0664 | this file | can be changed by its group
tollgate.yaml     | 0666 | this file | can be changed by everybody
state.redb        | 0644 | store.file | can be read by everybody
state.redb        | 0602 | store.file | can be changed by everybody
.                 | 0777 | this file | can be replaced by everybody, who may write to its folder
";

/// File, permissions; why.
const TIGHT: &str = "
k1            | 0400 | its owner alone
k1            | 0440 | Kubernetes' fsGroup
k1            | 0640 | its group may read
users.yaml    | 0640 | its group may read
gate.crt      | 0644 | everybody may know it
ca.crt        | 0444 | everybody may know it
tollgate.yaml | 0644 | it holds no secret
state.redb    | 0660 | Kubernetes' fsGroup
.             | 1777 | nobody can replace what is another's
.             | 0775 | not everybody
";

fn builder() -> Builder {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let keys = "  keys: [ { id: k1, algorithm: HS256, secret_file: k1 }, \
                { id: k2, algorithm: ES256, private_key_file: rsa.pem }, \
                { id: k3, algorithm: ES256, public_key_file: rsa.pub } ]";
    let listener = "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: gate.crt, \
                    private_key: gate.key } } ]";
    Builder::standard("127.0.0.1:9".parse().unwrap(), ROUTES)
        .line("  keys:", keys)
        .line("listeners:", listener)
        .line(
            "  app:",
            "  app: { endpoints: [ \"https://localhost:9\" ], ca_file: ca.crt }",
        )
        .certificate("gate", &["gate.example"])
        .certificate("ca", &["ca.example"])
        .file("rsa.pem", rsa.serialize_pem())
        .file("rsa.pub", rsa.public_key_pem())
        .file("api-key", "0123456789")
        .file("per-user", "root: { username: a, password: b }\n")
        .file("state.redb", "")
}

fn judge(builder: &Builder, command: &str) -> (Option<i32>, String, String) {
    let output = builder.run_to_end(&[command]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap()
}

#[test]
fn a_file_that_others_can_read_or_change_is_refused_unless_that_is_meant() {
    for row in rows(LOOSE) {
        let [file, mode, key, what] = row[..] else {
            panic!("{row:?}")
        };
        let loose = builder().mode(file, octal(mode));
        for command in ["check", "run"] {
            let (code, _, told) = judge(&loose, command);
            assert_eq!(code, Some(2), "{row:?}: {told}");
            let path = loose.folder().path().join(file);
            let name = path.to_str().unwrap().trim_end_matches("/.");
            for part in [
                &format!("{key}: "),
                name,
                what,
                "`chmod ",
                "`danger_loose_files: true`",
            ] {
                assert!(told.contains(part), "{row:?}: no {part} in: {told}");
            }
        }
        let meant = builder()
            .mode(file, octal(mode))
            .line("workers:", "danger_loose_files: true");
        let (code, told, error) = judge(&meant, "check");
        assert_eq!((code, error), (Some(0), String::new()), "{row:?}");
        assert!(
            told.contains("DANGER    danger_loose_files"),
            "{row:?}: {told}"
        );
    }
}

#[test]
fn a_file_that_only_its_group_can_read_is_taken() {
    for row in rows(TIGHT) {
        let (code, _, told) = judge(&builder().mode(row[0], octal(row[1])), "check");
        assert_eq!((code, told), (Some(0), String::new()), "{row:?}");
    }
}

#[test]
fn a_link_is_judged_by_where_it_leads_and_by_where_it_is() {
    let elsewhere = Folder::new();
    let target = elsewhere.write("k1", "0123456789abcdef0123456789abcdef");
    let builder = builder().edit("secret_file: k1", "secret_file: data/k1");
    let (data, version) = (
        builder.folder().path().join("data"),
        builder.folder().path().join("..1"),
    );
    // As Kubernetes mounts a secret: a link to a folder that is swapped, and links in it.
    fs::create_dir(&version).unwrap();
    symlink("..1", &data).unwrap();
    symlink(&target, version.join("k1")).unwrap();
    assert_eq!(judge(&builder, "check").0, Some(0));
    for (path, loose, tight) in [(&target, 0o644, 0o600), (&version, 0o777, 0o755)] {
        fs::set_permissions(path, Permissions::from_mode(loose)).unwrap();
        let (code, _, told) = judge(&builder, "check");
        assert_eq!(code, Some(2), "{}", path.display());
        assert!(told.contains("tokens.keys[0].secret_file: "), "{told}");
        fs::set_permissions(path, Permissions::from_mode(tight)).unwrap();
    }
    fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o777)).unwrap();
    let (code, _, told) = judge(&builder, "check");
    assert_eq!(code, Some(2));
    assert!(told.contains(elsewhere.path().to_str().unwrap()), "{told}");
}

#[test]
fn another_users_file_is_refused() {
    let builder = builder();
    let key = builder.folder().path().join("k1");
    if fs::metadata(&key).unwrap().uid() != 0 {
        // Only root can give a file away.
        return;
    }
    std::os::unix::fs::chown(&key, Some(NOBODY), None).unwrap();
    let (code, _, told) = judge(&builder, "check");
    assert_eq!(code, Some(2));
    assert!(
        told.contains("k1 belongs to user 65534, neither root nor the gate's own (0)"),
        "{told}"
    );
}

#[test]
fn a_running_gate_takes_no_file_that_became_loose() {
    let upstream = Upstream::start();
    let routes = "  - { path: /api/**, upstream: app }";
    let gate = Builder::standard(upstream.address, routes).start();
    let opens = || gate.get("/api/x", &sign(&claims())).status;
    let key = gate.folder().path().join("k1");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(reload(&gate), Verdict::Refused);
    let line = gate.wait_for_log("the refusal", |line| line["level"] == "ERROR");
    assert!(
        line["error"]
            .as_str()
            .unwrap()
            .contains("k1 can be read by everybody"),
        "{line}"
    );
    assert_eq!(opens(), 200);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_eq!(opens(), 200);
}
