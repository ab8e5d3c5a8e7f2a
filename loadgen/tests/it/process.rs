//! What a process uses, against a process that says itself what it used.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use loadgen::process::Watch;

/// At each line, uses 0.2 s of CPU in its main thread and 0.2 s in one that ends, and touches
/// 64 MiB.
const PROGRAM: &str = "
import sys, threading, time
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
print('ready', flush=True)
for line in sys.stdin:
    burn(0.2)
    thread = threading.Thread(target=burn, args=(0.2,))
    thread.start()
    thread.join()
    held = b'x' * (64 << 20)
    print('done', flush=True)
";

struct Burner {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Burner {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut burner = Self {
            child,
            stdin,
            stdout,
        };
        burner.hear("ready");
        burner
    }

    fn burn(&mut self) {
        self.stdin.write_all(b"burn\n").unwrap();
        self.hear("done");
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn cpu_of_all_threads_is_counted_once_and_memory_at_its_most() {
    let mut burner = Burner::start();
    let mut watch = Watch::new(burner.child.id()).unwrap();
    watch.begin().unwrap();
    burner.burn();
    let used = watch.end().unwrap();
    // Beside the loops it starts a thread and copies 64 MiB.
    let milliseconds = used.cpu / 1_000_000;
    assert!((370..700).contains(&milliseconds), "{milliseconds} ms");
    let grown = used.resident_peak - used.resident_before;
    assert!((60 << 20..80 << 20).contains(&grown), "{grown} bytes");
    assert!(used.proportional.is_some_and(|bytes| bytes > 60 << 20));

    // What was used before counts no more.
    let mut watch = Watch::new(burner.child.id()).unwrap();
    watch.begin().unwrap();
    let used = watch.end().unwrap();
    assert!(used.cpu < 50_000_000, "{} ns", used.cpu);
}

#[test]
fn a_process_that_ends_meanwhile_is_no_measurement() {
    let burner = Burner::start();
    let mut watch = Watch::new(burner.child.id()).unwrap();
    watch.begin().unwrap();
    drop(burner);
    assert!(watch.end().is_err());
}
