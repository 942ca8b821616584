//! Command lines that download nothing.

use std::fs;

use super::{dfget, run};

#[test]
fn mistakes_on_the_command_line_are_refused_with_a_suggestion() {
    let table = [
        (&["--ouptut", "x", "http://h/f"][..], "'--output'"),
        (&["--rate-limit", "fast", "http://h/f"], "write it as 20MiB/s"),
        (&["--digest", "sha1:00", "http://h/f"], "none of md5, sha256"),
        (&["--link", "soft", "http://h/f"], "auto, reflink, hard, copy"),
        (&["-q", "-v", "http://h/f"], "cannot be used with"),
        (&["-O", "x", "--input-file", "l"], "cannot be used with"),
        (&["http://h/f", "http://h/g"], "unexpected argument"),
        (&["h/f"], "give it with its scheme"),
        (&["http://h/"], "say where to write with -O"),
        (&[], "no URL was given"),
        (&["daemon", "--piece-prot", "1"], "'--piece-port'"),
    ];
    for (arguments, hint) in table {
        let (exit, stdout, stderr) = run(dfget(arguments));
        assert_eq!((exit, stdout.as_str()), (Some(2), ""), "{arguments:?} {stderr}");
        assert!(stderr.contains(hint), "{arguments:?} {stderr}");
    }
}

#[test]
fn a_mistake_in_the_environment_is_told_with_its_variable() {
    let mut command = dfget(&["http://h/f"]);
    command.env("DFGET_TIMEOUT", "soon");
    let (exit, _, stderr) = run(command);
    assert_eq!(exit, Some(2));
    assert!(stderr.contains("'soon'") && stderr.contains("environment variable DFGET_TIMEOUT"), "{stderr}");
    // On the command line it is another matter.
    let (_, _, stderr) = run(dfget(&["--timeout", "soon", "http://h/f"]));
    assert!(stderr.contains("'soon'") && !stderr.contains("variable"), "{stderr}");
}

#[test]
fn the_configuration_is_printed_with_the_origin_of_every_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damselfly/dfget.yaml");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "jobs: 7\nlink: copy\ntimeout: 3h\n").unwrap();
    let mut command = dfget(&["--print-config", "--link=hard", "-n", "s1,s2:1"]);
    command.env("XDG_CONFIG_HOME", folder.path()).env("DFGET_TIMEOUT", "1h").env("DFGET_LINK", "reflink");
    let (exit, stdout, stderr) = run(command);
    assert_eq!((exit, stderr.as_str()), (Some(0), ""));
    let file = path.display();
    let expected = format!(
        "endpoint: null  # default\n\
         scheduler:  # flag --scheduler\n  - s1:8002\n  - s2:1\n\
         application: ''  # default\n\
         timeout: 1h  # env DFGET_TIMEOUT\n\
         rate_limit: null  # default\n\
         link: hard  # flag --link\n\
         jobs: 7  # file {file}\n\
         progress: auto  # default\n\
         color: auto  # default\n"
    );
    assert_eq!(stdout, expected);

    fs::write(&path, "jobs: 0\n").unwrap();
    let mut command = dfget(&["--check-config"]);
    command.env("XDG_CONFIG_HOME", folder.path());
    let (exit, stdout, stderr) = run(command);
    assert_eq!((exit, stdout.as_str()), (Some(2), ""));
    let why = "jobs: invalid value: integer `0`, expected a whole number from 1 to 1000";
    assert_eq!(stderr, format!("dfget: {file}, line 1: {why}\n"));
}

#[test]
fn the_daemon_inside_has_the_flags_and_the_environment_of_dfdaemon() {
    let mut command = dfget(&["daemon", "--print-config", "--data-dir", "/d", "--ip", "10.1.2.3"]);
    command.env("DFDAEMON_SEED", "1").env("DFDAEMON_RPC_PORT", "7");
    let (exit, stdout, stderr) = run(command);
    assert_eq!((exit, stderr.as_str()), (Some(0), ""));
    for line in [
        "  ip: 10.1.2.3  # flag --ip\n",
        "  enable: true  # env DFDAEMON_SEED\n",
        "data_dir: /d  # flag --data-dir\n",
        "rpc:\n  port: 7  # env DFDAEMON_RPC_PORT\n",
        "pieces:\n  port: 65002  # default\n",
    ] {
        assert!(stdout.contains(line), "{line}{stdout}");
    }
    let (exit, stdout, _) = run(dfget(&["daemon", "--check-config"]));
    assert_eq!((exit, stdout.as_str()), (Some(0), "ok\n"));
}

#[test]
fn help_version_and_completions_go_to_stdout() {
    let table = [(&["--help"][..], "Exit codes:"), (&["-V"], "dfget "), (&["--completions", "bash"], "complete -F")];
    for (arguments, text) in table {
        let (exit, stdout, stderr) = run(dfget(arguments));
        assert_eq!((exit, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(stdout.contains(text), "{arguments:?} {stdout}");
    }
}
