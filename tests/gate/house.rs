//! Does the source keep the house's rules?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of the crate's modules a file or folder may use; the longest row that fits counts. A new
/// entry here is a new dependency in the architecture.
const DEPENDENCIES: &str = "
main      | cli
lib       |
cli       | admin authority clock config credential demo dialect identity memory mqtt::forecast refusal route server snapshot store telemetry token upstream
cli/summary | dialect::LoginConfig mqtt::config::Spoken route server::ListenerConfig
demo      | cli clock config identity telemetry
admin     | authority clock config credential dialect identity::operators mqtt::config::Spoken mqtt::forecast refusal route server snapshot store telemetry token
server    | clock config dialect::LoginConfig forward_auth gate inspected linger local mqtt pace patient refusal snapshot stream strict telemetry token

gate      | admit answer authority body clock cors dialect endpoint identity refusal route rules server::LimitsConfig server::guard server::peer snapshot telemetry token upstream walk
admit     | clock credential endpoint gate refusal route rules same_site server::peer telemetry::trace::Stage token upstream::translate::is_websocket walk
walk      | answer body cors dialect forward_auth::Question mqtt::Pending refusal route::Route rules server::guard snapshot telemetry token upstream
rules     | cors::Cors refusal route snapshot telemetry upstream
endpoint  | clock config cookie dialect identity page refusal same_site snapshot store telemetry token upstream
snapshot  | clock config dialect identity memory mqtt::config mqtt::subjects refusal route server::LimitsConfig server::ListenerConfig store telemetry::trace token upstream
mqtt          | admit answer authority body clock config credential gate patient refusal route rules server stream telemetry token upstream walk
mqtt/answer   | refusal
mqtt/config   | config
mqtt/connect  |
mqtt/flow     |
mqtt/forecast | refusal route::Route token upstream::credential
mqtt/frame    |
mqtt/packet   |
mqtt/pattern  | token::verify
mqtt/rules    | config::problem refusal token::verify
mqtt/subjects |
mqtt/websocket |

answer    | credential dialect page refusal route upstream::translate::X_REQUEST_ID
authority | refusal
body      | clock refusal server::guard telemetry upstream
cookie    |
cors      | config
forward_auth | config::problem cookie credential refusal route upstream::translate
page      |
same_site |
https     |

route        | config cors dialect mqtt::config mqtt::rules page refusal token upstream
route/path   | refusal
route/policy | config::problem refusal token
route/table  | refusal
credential   | cookie refusal route::TokenPlaces
dialect      | clock::UnixTime config::problem config::secret config::value cors identity::Attempt identity::SecretKind page refusal store::application token::Lifetimes token::TokenType token::issue::TokenPair token::verify::VerifiedToken
identity     | clock config refusal token upstream
upstream     | clock config cookie credential inspected local pace patient refusal route stream strict telemetry token
token        | clock config https refusal
store        | clock config token::revocation
telemetry    | clock config credential::Location https refusal token::verify::VerifiedToken upstream::tunnel::End

fuzzing         | config::problem endpoint::basic identity::Attempt inspected mqtt server::frames server::peer server::shed token::issuer::jwks token::keys

config          | admin cli::reload::ReloadConfig dialect identity route server store telemetry token upstream
config/files    | config
config/guard    |
config/load     | config
config/place    |
config/problem  | config
config/secret   |
config/shown    | config
config/value    |
clock           |
refusal         |
memory          | config::value::Size
pace            |
patient         | clock pace
stream          |
linger          | clock
inspected       | linger
local           |
strict          | inspected
";

#[test]
fn dependencies_point_one_way() {
    let rows = DEPENDENCIES.lines().filter_map(|line| line.split_once('|'));
    let rows: Vec<_> = rows.map(|(who, whom)| (who.trim(), whom)).collect();
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let place = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let fits = |who: &str| place == who || place.starts_with(&format!("{who}/"));
        let row = rows
            .iter()
            .filter(|(who, _)| fits(who))
            .max_by_key(|(who, _)| who.len());
        let Some((who, allowed)) = row else {
            wrong.push(format!("src/{name} has no row in the table"));
            continue;
        };
        for used in used_modules(&text) {
            let is_allowed =
                |allowed: &str| used == allowed || used.starts_with(&format!("{allowed}::"));
            let is_own = used.split("::").next() == who.split('/').next();
            if !is_own && !allowed.split_whitespace().any(is_allowed) {
                wrong.push(format!("src/{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The paths below `crate::` that a file names outside of its tests, groups taken apart.
fn used_modules(text: &str) -> Vec<String> {
    let text = text
        .split("#[cfg(test)]")
        .next()
        .unwrap()
        .replace("tollgate::", "crate::");
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let text: String = text
        .lines()
        .filter(is_code)
        .flat_map(|line| [line, " "])
        .collect();
    let mut used = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let stop = |letter: char| !letter.is_alphanumeric() && !"_:".contains(letter);
        let (path, rest) = rest.split_at(rest.find(stop).unwrap_or(rest.len()));
        let group = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        match group {
            None => used.push(path.to_owned()),
            Some(group) => {
                let names = group
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                used.extend(names.map(|name| format!("{path}{}", name.split(' ').next().unwrap())));
            }
        }
    }
    for path in &mut used {
        *path = path.trim_end_matches("::self").to_owned();
    }
    used
}

#[test]
fn a_group_of_imports_is_taken_apart() {
    let text = "use crate::a::{B, c::D as E};\nuse crate::{\n    f::G,\n    h,\n};\nlet x = crate::i::now();";
    assert_eq!(
        used_modules(text),
        ["a::B", "a::c::D", "f::G", "h", "i::now"]
    );
}

#[test]
fn a_file_has_at_most_400_lines() {
    for (name, text) in sources() {
        let count = text.lines().count();
        assert!(count <= 400, "src/{name} has {count} lines");
    }
}

#[test]
fn a_file_begins_with_the_question_that_it_answers() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "src/{name} has no module doc");
    }
}

#[test]
fn a_dialects_name_stands_only_in_its_file_the_registry_and_the_demo() {
    let sources = sources();
    let dialects = sources.iter().filter_map(|(name, _)| {
        let name = name.strip_prefix("dialect/")?.strip_suffix(".rs")?;
        // Basic, browsers and tickets are things that the whole gate speaks of.
        (!matches!(
            name,
            "basic" | "browser" | "grant" | "mod" | "mount" | "ticket" | "wire"
        ))
        .then_some(name)
    });
    let mut wrong = Vec::new();
    for dialect in dialects {
        for (name, text) in &sources {
            let own = format!("dialect/{dialect}.rs");
            if *name == own || name == "dialect/mod.rs" || name.starts_with("demo/") {
                continue;
            }
            for (index, line) in text.lines().enumerate() {
                if line.to_lowercase().contains(dialect) {
                    wrong.push(format!("src/{name}:{}: {}", index + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_secret_is_compared_by_its_bytes() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let statements = code.split([';', '{', '}']);
        let compares = |code: &str| [" == ", " != "].iter().any(|sign| code.contains(sign));
        let is_wrong = |code: &&str| code.contains("expose()") && compares(code);
        wrong.extend(
            statements
                .filter(is_wrong)
                .map(|code| format!("src/{name}: {}", code.trim())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let own = sources()
        .into_iter()
        .find(|(name, _)| name == "config/secret.rs");
    let (_, own) = own.unwrap();
    assert!(
        own.contains("ct_eq") && !own.contains("PartialEq"),
        "Secret::is is in constant time"
    );
}

#[test]
fn banned_crates_are_not_depended_upon() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap();
    for name in [
        "native-tls",
        "openssl",
        "openssl-sys",
        "rsa",
        "serde_yaml",
        "serde_yml",
    ] {
        assert!(
            !lock.contains(&format!("\nname = \"{name}\"\n")),
            "{name} is in Cargo.lock"
        );
    }
    // A lock file lists `ring` for a feature of rustls-webpki that nobody asks for.
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(
        tree.contains("aws-lc-rs v"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let ring = tree.lines().find(|line| line.starts_with("ring v"));
    assert_eq!(ring, None);
}

#[test]
fn what_is_fuzzed_is_built_of_what_is_released() {
    let packages = |lock: &str| {
        let text = std::fs::read_to_string(lock).unwrap();
        let packages = text.split("[[package]]\n").skip(1);
        let of = packages.map(|package| {
            let mut lines = package.lines().map(str::to_owned);
            (lines.next().unwrap(), lines.next().unwrap())
        });
        BTreeSet::from_iter(of)
    };
    let released = packages("Cargo.lock");
    let own =
        ["arbitrary", "libfuzzer-sys", "tollgate-fuzz"].map(|name| format!("name = \"{name}\""));
    let fuzzed = packages("tests/fuzz/Cargo.lock");
    let strange = fuzzed
        .difference(&released)
        .filter(|(name, _)| !own.contains(name));
    let strange = Vec::from_iter(strange);
    assert!(
        strange.is_empty(),
        "{strange:?}: cargo update --manifest-path tests/fuzz/Cargo.toml -p NAME --precise VERSION"
    );
}

/// Every source file: its path below `src/`, and its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    assert!(found.len() > 40, "{found:?}");
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix("src")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    found.into_iter().map(read).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
