//! Which scripts run on the server? One each for what has to be whole.

use std::sync::LazyLock;

use redis::Script;

use super::link::Lua;

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(super) static $name: Lua = (
            include_str!(concat!("lua/", $file)),
            LazyLock::new(|| Script::new(include_str!(concat!("lua/", $file)))),
        );)*
    };
}

scripts! {
    ADD_APPLICATION "add_application.lua"
    APPLICATIONS "applications.lua"
    BEGIN "begin.lua"
    CHANGE_APPLICATION "change_application.lua"
    END_APPLICATIONS "end_applications.lua"
    END_OLD "end_old.lua"
    FAIL "fail.lua"
    FORGET "forget.lua"
    IMPORT_APPLICATION "import_application.lua"
    INDEX "index.lua"
    OUTLIVE "outlive.lua"
    REVOKE "revoke.lua"
    REVOKED "revoked.lua"
    TAKE "take.lua"
    TRIM "trim.lua"
    WAIT "wait.lua"
}
