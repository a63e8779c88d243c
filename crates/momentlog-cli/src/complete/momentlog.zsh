#compdef momentlog
# Completion of momentlog for zsh: `source <(momentlog completion zsh)`, or as the file _momentlog in a directory of $fpath.
_momentlog() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX" found candidate name help
    local -a candidates
    found="$("${(Q)words[1]}" complete zsh "$line" 2>/dev/null)"
    if (( $? == 3 )); then
        _files
        return
    fi
    for candidate in "${(@f)found}"; do
        name="${${candidate%%$'\t'*}//:/\\:}"
        help="${candidate#*$'\t'}"
        [[ -z "$name" ]] || candidates+=("$name${help:+:$help}")
    done
    _describe momentlog candidates
}
if [[ "$funcstack[1]" == "_momentlog" ]]; then
    _momentlog "$@"
else
    compdef _momentlog momentlog
fi
