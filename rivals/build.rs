//! Compiles the shim over Boost's message queue, if Boost is there.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(boost)");
    println!("cargo::rerun-if-changed=src/boost.cpp");
    let compiled = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        .file("src/boost.cpp")
        .try_compile("tombolo_rivals_boost");
    match compiled {
        Ok(()) => {
            println!("cargo::rustc-link-lib=rt");
            println!("cargo::rustc-cfg=boost");
        }
        Err(_) => {
            // Tried again at each build: who reads the warning installs it.
            println!("cargo::rerun-if-changed=src/what-is-never-there");
            println!(
                "cargo::warning=Boost.Interprocess is left out: no C++ compiler, or no libboost-dev"
            );
        }
    }
}
