//! What a command line asks for, as downloads: a URL, an output and a request each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use df_api::base::UrlMeta;
use df_api::dfdaemon::DownRequest;
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::flags::{GetCommand, GetSettings, Transfer};
use super::output::{Place, local};

/// Most bytes of a list of downloads.
const LIST_LIMIT: u64 = 64 << 20;

/// One download.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Job {
    /// As it was given.
    pub(super) url: String,
    pub(super) place: Place,
    /// All that does not depend on the moment.
    pub(super) request: DownRequest,
}

/// The downloads that a command line asks for, at least one.
pub(super) fn jobs(command: &GetCommand, settings: &GetSettings) -> Result<Vec<Job>, Failure> {
    let meta = meta(&command.transfer, settings)?;
    let job = |url: &str, output: Option<&Path>| {
        let piece_len = command.transfer.piece_size.map_or(0, crate::units::Size::bytes);
        let checked = TaskRequest::new(url, meta.clone(), piece_len)?;
        let place = match output {
            Some(path) => Place::new(path),
            None => Place::Path(file_name(&checked.url)?),
        };
        Ok(Job { url: url.to_owned(), place, request: request(&checked, &command.transfer, settings) })
    };
    let Some(list) = &command.what.input_file else {
        let url = command.what.url.as_ref().or(command.what.url_flag.as_ref());
        let none =
            || Failure::new(Code::Usage, "no URL was given").hint("dfget URL downloads one; dfget --help shows all");
        let job = job(url.ok_or_else(none)?, command.output.output.as_deref())?;
        if job.place == Place::Stdout && command.report.json.as_deref() == Some(Path::new("-")) {
            let failure = Failure::new(Code::Usage, "the content and the result cannot both go to stdout");
            return Err(failure.hint("write the result to a file with --json=FILE"));
        }
        return Ok(vec![job]);
    };
    let mut jobs = Vec::new();
    let mut outputs = BTreeMap::new();
    for (line, url, output) in lines(&read_list(list)?) {
        let at_line = |failure: Failure| Failure { message: format!("line {line}: {}", failure.message), ..failure };
        let job = job(&url, output.as_deref()).map_err(at_line)?;
        if job.place == Place::Stdout {
            return Err(at_line(Failure::new(Code::Usage, "a list cannot be written to stdout")));
        }
        if let Some(other) = outputs.insert(job.place.clone(), line) {
            let message = format!("{} is the output of line {other} already", job.place.name());
            return Err(at_line(Failure::new(Code::Usage, message)));
        }
        jobs.push(job);
    }
    if jobs.is_empty() {
        return Err(Failure::new(Code::Usage, "the list of downloads is empty"));
    }
    Ok(jobs)
}

fn read_list(list: &Path) -> Result<String, Failure> {
    let from: Box<dyn Read> = match list.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(list).map_err(|error| local(&format!("read {}", list.display()), &error))?),
    };
    let mut text = String::new();
    let read = from.take(LIST_LIMIT + 1).read_to_string(&mut text);
    read.map_err(|error| local(&format!("read {}", list.display()), &error))?;
    if text.len() as u64 > LIST_LIMIT {
        return Err(Failure::new(Code::Usage, format!("a list of downloads has at most {LIST_LIMIT} bytes")));
    }
    Ok(text)
}

/// The lines of a list with their numbers, without empty ones and comments.
fn lines(text: &str) -> Vec<(usize, String, Option<PathBuf>)> {
    let parse = |(number, line): (usize, &str)| {
        let line = line.trim();
        let (url, output) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let output = Some(output.trim()).filter(|output| !output.is_empty()).map(PathBuf::from);
        (!url.is_empty() && !url.starts_with('#')).then(|| (number, url.to_owned(), output))
    };
    (1..).zip(text.lines()).filter_map(parse).collect()
}

/// The last segment of a URL's path, as it is written there.
fn file_name(url: &Url) -> Result<PathBuf, Failure> {
    match url.path().rsplit('/').next() {
        Some(name) if !matches!(name, "" | "." | "..") => Ok(name.into()),
        _ => {
            let failure = Failure::new(Code::Usage, "the URL names no file");
            Err(failure.because("its path has no last segment").hint("say where to write with -O"))
        }
    }
}

fn meta(transfer: &Transfer, settings: &GetSettings) -> Result<UrlMeta, Failure> {
    let digest = transfer.digest.or(transfer.md5).map(|digest| digest.to_string());
    Ok(UrlMeta {
        digest: digest.unwrap_or_default(),
        tag: transfer.tag.clone().unwrap_or_default(),
        range: String::new(),
        filter: transfer.filter.join("&"),
        header: headers(&transfer.headers)?.into_iter().collect(),
        application: settings.application.clone(),
        priority: transfer.priority.into(),
    })
}

/// Headers by name. What a failure says does not show a value, which may be a secret.
fn headers(lines: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        let is_header =
            line.contains(':') && HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok();
        if !is_header {
            return Err(Failure::new(Code::Usage, "a header is malformed").hint("write it as -H 'Name: value'"));
        }
        // Several lines of one header are a list (RFC 9110, 5.2).
        let merge = |old: &mut String| *old = format!("{old}, {value}");
        headers.entry(name.to_ascii_lowercase()).and_modify(merge).or_insert_with(|| value.to_owned());
    }
    Ok(headers)
}

fn request(task: &TaskRequest, transfer: &Transfer, settings: &GetSettings) -> DownRequest {
    DownRequest {
        url: task.url.to_string(),
        limit: settings.rate_limit.map_or(0.0, |rate| rate.bytes_per_sec() as f64),
        disable_back_source: transfer.disable_back_source,
        url_meta: Some(task.meta.clone()),
        callsystem: "dfget".to_owned(),
        uid: rustix::process::getuid().as_raw().into(),
        gid: rustix::process::getgid().as_raw().into(),
        deliver_descriptor: true,
        piece_length: task.piece_len,
        insecure: transfer.insecure,
        ..DownRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Vec<Job>, Failure> {
        let command = GetCommand::try_parse_from(["dfget"].iter().chain(arguments)).unwrap();
        jobs(&command, &GetSettings::default())
    }

    fn one(arguments: &[&str]) -> Job {
        parse(arguments).unwrap().remove(0)
    }

    #[test]
    fn old_spellings_are_understood() {
        let new = one(&[
            "-O",
            "out",
            "--tag",
            "t",
            "--filter",
            "a&b",
            "--piece-size",
            "4MiB",
            "--disable-back-source",
            "http://h/f",
        ]);
        assert_eq!(new.place, Place::Path("out".into()));
        assert_eq!(new.request.url_meta.as_ref().unwrap().filter, "a&b");
        for (name, value) in [("-o", "-i"), ("--output", "--identifier")] {
            for (filter, back) in [("-f", "--notbs"), ("--filtered-query-param", "--disable-back-to-source")] {
                let old = [
                    name,
                    "out",
                    value,
                    "t",
                    filter,
                    "a",
                    filter,
                    "b",
                    "--piece-length",
                    "4m",
                    back,
                    "-u",
                    "http://h/f",
                ];
                assert_eq!(one(&old), new, "{old:?}");
            }
        }
        let md5 = "25f9e794323b453885f5181f1b624d0b";
        let digest = format!("md5:{md5}");
        assert_eq!(one(&["-m", md5, "http://h/f"]), one(&["--digest", &digest, "http://h/f"]));
        assert!(GetCommand::try_parse_from(["dfget", "-m", "xyz", "http://h/f"]).is_err());
        for limit in ["--ratelimit", "--limit", "-s", "--locallimit", "--daemon-sock", "-e", "--node", "-n"] {
            assert!(GetCommand::try_parse_from(["dfget", limit, "20", "http://h/f"]).is_ok(), "{limit}");
        }
    }

    #[test]
    fn the_output_is_named_after_the_url() {
        for (url, name) in [("http://h/a/b.bin?x=/y#z", "b.bin"), ("http://h/a%20b", "a%20b"), ("http://h/a/../c", "c")]
        {
            assert_eq!(one(&[url]).place, Place::Path(name.into()));
        }
        for url in ["http://h", "http://h/", "http://h/a/", "http://h/a/.."] {
            assert_eq!(parse(&[url]).unwrap_err().code, Code::Usage, "{url}");
        }
        assert_eq!(one(&["-O", "-", "http://h"]).place, Place::Stdout);
    }

    #[test]
    fn headers_are_checked_and_not_shown() {
        let job = one(&["-H", "Accept: a", "-H", "X-Key:1", "-H", "accept: b", "http://h/f"]);
        let headers = job.request.url_meta.unwrap().header;
        assert_eq!((headers.len(), &*headers["accept"], &*headers["x-key"]), (2, "a, b", "1"));
        for bad in ["secret", ": secret", "a b: secret", "a: sec\nret"] {
            let failure = parse(&["-H", bad, "http://h/f"]).unwrap_err();
            assert!(failure.code == Code::Usage && !format!("{failure:?}").contains("sec"), "{failure:?}");
        }
    }

    #[test]
    fn a_list_has_a_url_and_maybe_an_output_in_every_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let list = file.path().to_str().unwrap();
        std::fs::write(list, "# two\nhttp://h/a\n\n  http://h/b   d/the b \n").unwrap();
        let jobs = parse(&["--input-file", list]).unwrap();
        let places: Vec<_> = jobs.iter().map(|job| (job.url.as_str(), job.place.name())).collect();
        assert_eq!(places, [("http://h/a", "a".to_owned()), ("http://h/b", "d/the b".to_owned())]);
        let table = [
            ("", "the list of downloads is empty"),
            ("http://h/a\nhttp://g/a\n", "line 2: a is the output of line 1 already"),
            ("\nnonsense\n", "line 2: \"nonsense\" is not a URL"),
            ("http://h/a -\n", "line 1: a list cannot be written to stdout"),
        ];
        for (text, message) in table {
            std::fs::write(list, text).unwrap();
            let failure = parse(&["--input-file", list]).unwrap_err();
            assert_eq!((failure.code, failure.message.as_str()), (Code::Usage, message));
        }
        assert_eq!(parse(&["--input-file", "/nonexistent/list"]).unwrap_err().code, Code::LocalIo);
    }
}
