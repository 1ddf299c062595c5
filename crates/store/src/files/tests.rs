mod conformance;
mod crash;
mod damage;
mod disk;
mod faults;
mod keep;
mod look;
mod model;
